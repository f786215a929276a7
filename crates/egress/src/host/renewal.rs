//! Tokens that their servers refuse before their end: a question to the server that lends them, one at a time for each
//! credential of a sandbox. It never waits long: without an answer the refusal stands.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use contract::ids::CredentialId;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use vault::Lent;

use super::wire::{self, Answer, RefusedToken, Request};
use crate::limits::RENEWAL;

/// A credential of a sandbox.
type Key = (String, CredentialId);

/// The questions of this process.
pub(super) struct Renewals {
    /// How long an answer is waited for.
    patience: Duration,
    /// Where a server listens for them.
    server: Mutex<Option<Arc<UnixStream>>>,
    /// Those without an answer, each with what ends the wait for it.
    asked: Mutex<HashMap<Key, CancellationToken>>,
}

impl Default for Renewals {
    fn default() -> Self {
        Self {
            patience: RENEWAL,
            server: Mutex::default(),
            asked: Mutex::default(),
        }
    }
}

impl Renewals {
    /// Has that server told of them, until it goes or another one listens. It is told first that it is.
    pub(super) async fn tell(&self, server: UnixStream, stop: &CancellationToken) {
        let server = Arc::new(server);
        *self.server() = Some(Arc::clone(&server));
        // Whether it is still there, is seen below.
        let _ = wire::send(&*server, &Answer::Done, &[]);
        let receive = || wire::receive::<Request>(&*server);
        tokio::select! {
            () = stop.cancelled() => {}
            // It has nothing to say here: it has gone.
            _ = server.async_io(Interest::READABLE, receive) => {}
        }
        let mut current = self.server();
        if !current.as_ref().is_some_and(|it| Arc::ptr_eq(it, &server)) {
            return;
        }
        *current = None;
        drop(current);
        for (_, over) in self.asked().drain() {
            over.cancel();
        }
    }

    /// Asks for another token than the one that was lent, or waits with those who have asked, until there is an answer,
    /// nobody who gives one, or [`RENEWAL`] is over.
    ///
    /// Cancel safe: yes; a question that was asked stands.
    pub(super) async fn ask(&self, sandbox: &str, credential: CredentialId, lent: &Lent) {
        let key = (sandbox.to_owned(), credential);
        let Some(over) = self.asking(&key, lent) else {
            return;
        };
        if timeout(self.patience, over.cancelled()).await.is_err() {
            self.answered(&key.0, credential);
        }
    }

    /// There is an answer: what is lent now is all that there is.
    pub(super) fn answered(&self, sandbox: &str, credential: CredentialId) {
        let answered = self.asked().remove(&(sandbox.to_owned(), credential));
        if let Some(over) = answered {
            over.cancel();
        }
    }

    /// What ends the wait; none if nobody is there to be asked.
    fn asking(&self, key: &Key, lent: &Lent) -> Option<CancellationToken> {
        let mut asked = self.asked();
        if let Some(over) = asked.get(key) {
            return Some(over.clone());
        }
        let server = self.server().clone()?;
        let question = RefusedToken {
            sandbox: key.0.clone(),
            credential: key.1,
            lent: lent.clone(),
        };
        // One that has gone, or reads nothing.
        wire::send(&*server, &question, &[]).ok()?;
        let over = CancellationToken::new();
        asked.insert(key.clone(), over.clone());
        Some(over)
    }

    fn server(&self) -> MutexGuard<'_, Option<Arc<UnixStream>>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<Key, CancellationToken>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use contract::ids::WorkspaceId;
    use contract::secret::Secret;
    use vault::Vault;
    use vault::master::MasterKey;
    use vault::secret::CredentialSecret;

    use super::*;

    fn lent() -> (CredentialId, Lent) {
        let vault = Vault::with(&MasterKey::from_bytes([7; 32]));
        let (workspace, id) = (WorkspaceId::Default, CredentialId::from_bits(1));
        let secret = CredentialSecret::token(Secret::new("refused".to_owned()));
        let sealed = vault.seal_credential(workspace, id, &secret);
        (id, vault.lend_token(workspace, id, &sealed).unwrap())
    }

    /// Both ends of what a server listens on.
    fn pair() -> (UnixStream, UnixStream) {
        let (ours, theirs) = control::pair().unwrap();
        let stream = |end| {
            let end = std::os::unix::net::UnixStream::from(end);
            end.set_nonblocking(true).unwrap();
            UnixStream::from_std(end).unwrap()
        };
        (stream(ours), stream(theirs))
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_waited_for_no_longer_than_that() {
        let (ours, _theirs) = pair();
        let renewals = Renewals {
            patience: Duration::from_millis(1),
            ..Renewals::default()
        };
        *renewals.server() = Some(Arc::new(ours));
        let (id, lent) = lent();
        renewals.ask("silent", id, &lent).await;
        assert!(renewals.asked().is_empty(), "the next one asks anew");
    }

    #[tokio::test]
    async fn a_server_that_goes_is_not_waited_for_and_all_have_asked_once() {
        let (ours, theirs) = pair();
        let (renewals, stop) = (Renewals::default(), CancellationToken::new());
        let (id, lent) = lent();
        let hear = async {
            let done = || wire::receive::<Answer>(&theirs);
            let done = theirs.async_io(Interest::READABLE, done).await.unwrap();
            assert_eq!(done.unwrap().0, Answer::Done);
            let goes = async {
                let asked = || wire::receive::<RefusedToken>(&theirs);
                let asked = theirs.async_io(Interest::READABLE, asked).await.unwrap();
                assert_eq!(asked.unwrap().0.credential, id);
                // Both wait by now: nothing else runs on this thread.
                assert!(wire::receive::<RefusedToken>(&theirs).is_err(), "once");
                rustix::net::shutdown(&theirs, rustix::net::Shutdown::Both).unwrap();
            };
            let ask = || renewals.ask("left", id, &lent);
            tokio::join!(ask(), ask(), goes);
        };
        tokio::join!(renewals.tell(ours, &stop), hear);
        assert!(renewals.asked().is_empty());
        // Nobody is there to be asked.
        renewals.ask("left", id, &lent).await;
    }
}
