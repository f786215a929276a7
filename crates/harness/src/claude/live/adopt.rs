//! How a claude goes on with the next server: what is noted of it beside its process, and how it is taken up from that.
//! What it says then is held against the session's log, which wins.

use std::sync::Arc;

use model::Message;
use sandbox::Sandbox;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Live, NotStarted};
use crate::brief::Brief;
use crate::claude::path::{Asked, ModelPath};
use crate::claude::process::Foreign;
use crate::claude::standing::Standing;
use crate::claude::start::How;
use crate::claude::wire;

/// What a later server needs to go on with it, beside what it has said since.
#[derive(Serialize, Deserialize)]
struct Note {
    /// Of the model path, on the sandbox's own loopback.
    port: u16,
    /// Good for nothing but that path.
    stand_in: String,
    /// How many messages of the conversation it knew.
    told: usize,
    /// Whether it stood still.
    rested: bool,
    /// What it was told to be.
    made_of: String,
}

impl Live {
    /// The claude that an earlier server drove in this sandbox, if it goes on and can be taken up.
    pub(crate) async fn adopt(
        sandbox: &Arc<dyn Sandbox>,
        brief: &Brief,
        messages: &[Message],
    ) -> Result<Option<Self>, NotStarted> {
        let Some((foreign, kept)) = Foreign::kept(sandbox.as_ref()).await? else {
            return Ok(None);
        };
        // Half a line may have been said: what is said next would be read as its end.
        let is_whole = kept.said.is_empty() || kept.said.ends_with('\n');
        let note = serde_json::from_str::<Note>(&kept.note).ok();
        let Some(note) = note.filter(|note| is_whole && note.told <= messages.len()) else {
            return Ok(None);
        };
        let listener = sandbox.listen(note.port).await?;
        let path = ModelPath::again(listener, &note.stand_in).map_err(NotStarted::Path)?;
        let (answered, said) = wire::told(&kept.said);
        let mut live = Self::new(
            foreign,
            path,
            sandbox,
            note.told,
            (How::Adopted, note.made_of),
        );
        let calls = messages[..note.told].last().map(calls).unwrap_or_default();
        live.round_of(&calls, brief);
        live.answered = answered;
        live.ending = !note.rested;
        if said {
            live.told = messages.len();
        }
        Ok(Some(live))
    }

    /// Whether what it asks its model is what the session's log says. Looked at until it was so once: from then on it
    /// is told each step of the way.
    pub(crate) fn agrees(&mut self, asked: &Asked, messages: &[Message]) -> bool {
        if self.unproven {
            let theirs = asked.words.body.get("messages").and_then(Value::as_array);
            let ours = model::anthropic_messages(messages);
            let theirs = Standing::of(theirs.into_iter().flatten());
            self.unproven = !Standing::of(ours.iter()).agrees(&theirs);
        }
        !self.unproven
    }

    /// Whether it goes on from a transcript of its own, and nobody has seen yet that this is right.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.unproven && self.how == How::Revived
    }

    /// From here a later server can go on with it.
    pub(super) fn mark(&self, rested: bool) {
        let note = Note {
            port: self.path.port(),
            stand_in: self.path.token().to_owned(),
            told: self.told,
            rested,
            made_of: self.made_of.clone(),
        };
        if let Ok(note) = serde_json::to_string(&note) {
            self.foreign.mark(&note);
        }
    }
}

/// The calls of a reply: the model's id and name of each.
fn calls(message: &Message) -> Vec<(String, String)> {
    match message {
        Message::Assistant(blocks) => crate::claude::calls(blocks),
        Message::System(_) | Message::User(_) => Vec::new(),
    }
}
