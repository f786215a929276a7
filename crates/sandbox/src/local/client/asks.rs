//! Owns questions to the hand, each answered once. It knows nothing of what they are about.

use std::io;

use bytes::Bytes;
use hand::wire::{Ask, Said, ToHand};

use super::{Answer, Client, Request};
use crate::error::{Doing, Error};
use crate::limits::ASK;

impl Client {
    /// Has the hand do or say one thing.
    pub(in crate::local) async fn ask(&self, ask: &Ask) -> Result<Said, Error> {
        let (id, ask) = (self.0.id(), question(ask)?);
        let mut request = Request::new(&self.0, id);
        let answered = self.0.within(ASK, async {
            request.send(&ToHand::Ask { id }, ask).await?;
            let answer = (&mut request.answer).await;
            request.answered(answer)
        });
        match answered.await {
            Some(answer) => match answer? {
                Answer::Done(said) => serde_json::from_slice(&said).map_err(|_| self.0.broken()),
                Answer::Refused(refused) => Err(refused),
                _ => Err(self.0.broken()),
            },
            None => Err(Error::busy("the sandbox takes too long to answer")),
        }
    }

    /// Has the hand do one thing, whose answer nobody waits for. What is said after it comes after it. Cancel safe.
    pub(in crate::local) async fn tell(&self, ask: &Ask) -> Result<(), Error> {
        let (id, ask) = (self.0.id(), question(ask)?);
        self.0.send(&ToHand::Ask { id }, ask).await
    }
}

fn question(ask: &Ask) -> Result<Bytes, Error> {
    let ask = serde_json::to_vec(ask).map_err(io::Error::from);
    Ok(ask.doing(|| "write a question".to_owned())?.into())
}
