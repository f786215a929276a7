//! Owns what the programs of one sandbox are told to trust, and when: nothing until a rule or a credential has to look
//! inside TLS, and then before the next command. It writes no file itself.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hand::wire::Ask;
use tokio::time::timeout;

use super::{ENVIRONMENT, Store, place, withdraw};
use crate::error::Error;
use crate::limits::TRUST;
use crate::local::client::Client;

/// What programs of one sandbox trust besides what its template has. Cheap to clone.
#[derive(Clone)]
pub struct Trusting(Arc<Inner>);

struct Inner {
    /// What Java trusts in its template.
    java: Option<Arc<Store>>,
    state: Mutex<State>,
    /// Held by who does what is owed.
    turn: tokio::sync::Mutex<()>,
}

struct State {
    /// Once it can be talked to.
    client: Option<Client>,
    files: Files,
    owed: Option<Owed>,
    /// The certificate that lies there.
    trusted: Option<String>,
    /// Variables that its network has for it.
    variables: Vec<(String, String)>,
}

/// What is known of the files of a sandbox that comes up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::local) enum Files {
    /// They are the template's: nothing has run on them.
    New,
    /// An earlier start may have left its certificate there.
    Used,
    /// They are those of a sandbox that runs already.
    Running,
}

#[derive(Clone, PartialEq, Eq)]
enum Owed {
    /// That certificate is to be trusted.
    Trust(String),
    /// What an earlier start left is to go.
    Distrust,
}

impl Trusting {
    pub(in crate::local) fn new(java: Option<Arc<Store>>, files: Files) -> Self {
        Self(Arc::new(Inner {
            java,
            state: Mutex::new(State {
                client: None,
                files,
                owed: (files == Files::Used).then_some(Owed::Distrust),
                trusted: None,
                variables: Vec::new(),
            }),
            turn: tokio::sync::Mutex::default(),
        }))
    }

    /// Has what is started in the sandbox from now on trust that certificate (PEM); what runs already has to read its
    /// store again. Of a sandbox that is on its way up or stands still this returns at once, and it is done before the
    /// next command there. Never undone while the sandbox runs.
    ///
    /// Cancel safe: yes; what was begun is done before the next command.
    ///
    /// # Errors
    /// The sandbox does not take it, or not within [`TRUST`]: programs there refuse what they are shown.
    pub async fn trust(&self, certificate: &str) -> Result<(), Error> {
        {
            let mut state = self.state();
            if state.trusted.as_deref() == Some(certificate) {
                return Ok(());
            }
            state.owed = Some(Owed::Trust(certificate.to_owned()));
            if state.client.as_ref().is_none_or(Client::is_held) {
                return Ok(());
            }
        }
        let late = || Error::busy("the sandbox takes too long to be told whom to trust");
        timeout(TRUST, self.settle())
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    /// It can be talked to from now on.
    pub(in crate::local) fn is_up(&self, client: Client) {
        let mut state = self.state();
        state.client = Some(client);
        if state.owed.is_none() {
            state.files = Files::Running;
        }
    }

    /// Has what is started from now on find these variables, in the place of those before.
    ///
    /// # Errors
    /// [`Error::Lost`], [`Error::Gone`].
    pub(in crate::local) async fn give(
        &self,
        variables: Vec<(String, String)>,
    ) -> Result<(), Error> {
        self.state().variables = variables;
        self.tell().await
    }

    /// Those variables.
    pub(in crate::local) fn given(&self) -> Vec<(String, String)> {
        self.state().variables.clone()
    }

    /// Does what is owed, or waits until it is done. What cannot be done is owed no more: it would fail again.
    ///
    /// Cancel safe: yes; it is owed still.
    ///
    /// # Errors
    /// Those of writing a file in the sandbox, to whoever did it.
    pub(in crate::local) async fn settle(&self) -> Result<(), Error> {
        if self.state().owed.is_none() {
            return Ok(());
        }
        let _turn = self.0.turn.lock().await;
        let (client, owed, files) = {
            let state = self.state();
            match (&state.client, &state.owed) {
                (Some(client), Some(owed)) => (client.clone(), owed.clone(), state.files),
                _ => return Ok(()),
            }
        };
        let java = self.0.java.as_deref();
        let done = match &owed {
            Owed::Trust(certificate) => place(&client, java, certificate, files).await,
            Owed::Distrust => withdraw(&client, java).await,
        };
        {
            let mut state = self.state();
            state.files = Files::Running;
            if state.owed.as_ref() == Some(&owed) {
                state.owed = None;
            }
            match (&done, owed) {
                (Ok(()), Owed::Trust(certificate)) => state.trusted = Some(certificate),
                _ => return done,
            }
        }
        self.tell().await
    }

    /// The same, for who goes on whatever comes of it.
    pub(in crate::local) async fn settled(&self) {
        if let Err(error) = self.settle().await {
            tracing::warn!(%error, "programs of a sandbox may not trust what its network shows them");
        }
    }

    /// Tells the sandbox its variables. It hears of them before it hears of a command.
    async fn tell(&self) -> Result<(), Error> {
        let (client, env) = {
            let state = self.state();
            (state.client.clone(), state.environment())
        };
        match client {
            Some(client) if !env.is_empty() => client.tell(&Ask::Environment { env }).await,
            _ => Ok(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How programs are told whom to trust, if they are to trust anybody, and the network's variables, which win.
    fn environment(&self) -> Vec<(String, String)> {
        let of_trust = match &self.trusted {
            Some(_) => ENVIRONMENT,
            None => &[],
        };
        let named = |name: &str| self.variables.iter().any(|(other, _)| other == name);
        let of_trust = of_trust.iter().filter(|(name, _)| !named(name));
        of_trust
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .chain(self.variables.iter().cloned())
            .collect()
    }
}

impl fmt::Debug for Trusting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trusting").finish_non_exhaustive()
    }
}
