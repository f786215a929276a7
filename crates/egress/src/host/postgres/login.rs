//! The login itself, between a client that shows its password and a server that asks for proof of one. It must never
//! say the secret where the server did not ask for it, nor go on with a server that has not shown that it knows it too.

use std::io;
use std::sync::Arc;

use md5::{Digest as _, Md5};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use super::super::answer::Refusal;
use super::super::flow::Flow;
use super::super::password::{Line, refused};
use super::scram::{NAME, Scram};
use super::wire::{Message, Start, message};
use crate::inject::{Denied, RULE, Spending};

/// Messages of a server in one login; four are the most that any way of it takes, and notices may stand between.
const MESSAGES: usize = 32;

/// Proofs of passwords that are computed at one time. Each takes a processor for tens of milliseconds, if the server
/// wants that.
static PROOFS: Semaphore = Semaphore::const_new(2);

/// The numbers of what a server may ask for (PostgreSQL's documentation, §55.7).
const OK: u32 = 0;
const CLEAR: u32 = 3;
const MD5: u32 = 5;
const SASL: u32 = 10;
const SASL_GOES_ON: u32 = 11;
const SASL_ENDS: u32 = 12;

/// Why there is no login.
enum Problem {
    Client(io::Error),
    Server(io::Error),
    Denied(Denied),
    /// The server asks for what is not done here, or does it wrong.
    Other(String),
}

/// Logs the client in; whether the server has let it in. If it has not, the client was told so by the server.
///
/// # Errors
/// There is no login: the credential cannot go there, or one of both does not speak as it should.
pub(super) async fn log_in(
    flow: &Flow,
    client: &mut Line,
    server: &mut Line,
    start: &Start,
    spending: Option<&Spending>,
) -> Result<bool, Refusal> {
    let login = Login {
        flow,
        client,
        server,
        user: start.user().unwrap_or_default(),
        spending,
        password: None,
        scram: None,
    };
    login.run().await.map_err(|problem| match problem {
        Problem::Client(error) => refused(
            flow,
            400,
            "protocol",
            &format!("the client ended its login ({error})"),
        ),
        Problem::Server(error) => refused(
            flow,
            502,
            "upstream",
            &format!("the server ended the login ({error})"),
        ),
        Problem::Denied(why) => refused(flow, 403, RULE, &why.to_string()),
        Problem::Other(why) => refused(flow, 502, "upstream", &why),
    })
}

struct Login<'a> {
    flow: &'a Flow,
    client: &'a mut Line,
    server: &'a mut Line,
    user: &'a [u8],
    spending: Option<&'a Spending>,
    /// What the server is to be shown, once the client has been asked.
    password: Option<Zeroizing<String>>,
    /// The exchange that was begun, and whether the server has shown that it knows the password.
    scram: Option<(Scram, bool)>,
}

impl Login<'_> {
    async fn run(mut self) -> Result<bool, Problem> {
        for _ in 0..MESSAGES {
            let said = Message::read(self.server).await.map_err(Problem::Server)?;
            match said.authentication() {
                Some((OK, _)) => {
                    if matches!(self.scram, Some((_, false))) {
                        let what = "the server did not show that it knows the password";
                        return Err(Problem::Other(what.to_owned()));
                    }
                    self.pass_on(&said).await?;
                    return Ok(true);
                }
                Some((number, rest)) => self.answer(number, rest).await?,
                None if said.kind == b'E' => {
                    self.pass_on(&said).await?;
                    self.client.shutdown().await.map_err(Problem::Client)?;
                    return Ok(false);
                }
                // A notice, or that it speaks an older version.
                None if matches!(said.kind, b'N' | b'v') => self.pass_on(&said).await?,
                None => return Err(Problem::Other("the server speaks no PostgreSQL".to_owned())),
            }
        }
        Err(Problem::Other("the server goes on and on".to_owned()))
    }

    /// Shows the client what the server has said, without what it was told.
    async fn pass_on(&mut self, said: &Message) -> Result<(), Problem> {
        let mut bytes = said.bytes();
        if let Some(forms) = self.spending.and_then(Spending::forms) {
            forms.mask(&mut bytes);
        }
        self.client.write_all(&bytes).await.map_err(Problem::Client)
    }

    async fn answer(&mut self, number: u32, rest: &[u8]) -> Result<(), Problem> {
        let answer = match number {
            CLEAR => {
                let password = self.password().await?;
                message(b'p', &[c_string(password)?, b"\0"])
            }
            MD5 => {
                let user = self.user;
                let hashed = md5(self.password().await?, user, rest);
                message(b'p', &[hashed.as_bytes(), b"\0"])
            }
            SASL => {
                if !rest.split(|byte| *byte == 0).any(|name| name == NAME) {
                    let what = "the server asks for a login by what is not SCRAM-SHA-256";
                    return Err(Problem::Other(what.to_owned()));
                }
                if self.scram.is_some() {
                    let what = "the server asks for a login by SCRAM twice";
                    return Err(Problem::Other(what.to_owned()));
                }
                let scram = Scram::new(self.password().await?);
                let scram = scram.map_err(|why| Problem::Other(why.to_string()))?;
                let first = scram.first();
                self.scram = Some((scram, false));
                let length = u32::try_from(first.len()).unwrap_or(u32::MAX).to_be_bytes();
                message(b'p', &[NAME, b"\0", &length, first.as_bytes()])
            }
            SASL_GOES_ON | SASL_ENDS => match self.scrammed(number, rest).await? {
                Some(answer) => message(b'p', &[answer.as_bytes()]),
                None => return Ok(()),
            },
            other => {
                let what =
                    format!("the server asks for a login of kind {other}, which is not done here");
                return Err(Problem::Other(what));
            }
        };
        self.server
            .write_all(&answer)
            .await
            .map_err(Problem::Server)
    }

    /// Goes on with SCRAM; what is to be said, if anything is.
    async fn scrammed(&mut self, number: u32, rest: &[u8]) -> Result<Option<String>, Problem> {
        let wrong = |why: super::scram::Wrong| Problem::Other(why.to_string());
        let Some((mut scram, is_known)) = self.scram.take() else {
            return Err(Problem::Other(
                "the server goes on with what was not begun".to_owned(),
            ));
        };
        if number == SASL_ENDS {
            scram.check(rest).map_err(wrong)?;
            self.scram = Some((scram, true));
            return Ok(None);
        }
        // One of each sandbox waits in line with those of others.
        let gone = |_| Problem::Other("nothing is computed here any more".to_owned());
        let own = Arc::clone(&self.flow.carried.proving).acquire_owned();
        let places = (
            own.await.map_err(gone)?,
            PROOFS.acquire().await.map_err(gone)?,
        );
        let asked = rest.to_vec();
        let proving = spawn_blocking(move || {
            let answer = scram.answer(&asked);
            // Also when nobody waits for it any more, it takes its processor until here.
            drop(places);
            (scram, answer)
        });
        let stopped = |_| Problem::Other("the proof of the password was not computed".to_owned());
        let (scram, answer) = proving.await.map_err(stopped)?;
        self.scram = Some((scram, is_known));
        answer.map(Some).map_err(wrong)
    }

    /// What the server is to be shown: the secret where the client shows its placeholder, else what the client shows.
    async fn password(&mut self) -> Result<&str, Problem> {
        if self.password.is_none() {
            let ask = message(b'R', &[&CLEAR.to_be_bytes()]);
            self.client.write_all(&ask).await.map_err(Problem::Client)?;
            let shown = Message::read(self.client).await.map_err(Problem::Client)?;
            let text = shown
                .body
                .strip_suffix(b"\0")
                .filter(|_| shown.kind == b'p');
            let text = text.and_then(|text| std::str::from_utf8(text).ok());
            let malformed = || Problem::Client(io::ErrorKind::InvalidData.into());
            let text = text.ok_or_else(malformed)?;
            let secret = self.spending.map(|it| it.password(text)).transpose();
            let secret = secret.map_err(Problem::Denied)?.flatten();
            let password = secret.map_or(text, |secret| secret.expose());
            self.password = Some(Zeroizing::new(password.to_owned()));
        }
        Ok(self.password.as_ref().map_or("", |it| it.as_str()))
    }
}

/// A password as a text that ends with a zero.
fn c_string(password: &str) -> Result<&[u8], Problem> {
    if password.contains('\0') {
        let why = "the secret has a zero byte, which the way that the server asks for cannot carry";
        return Err(Problem::Denied(Denied(why.to_owned())));
    }
    Ok(password.as_bytes())
}

/// `md5` and the hash of a hash (PostgreSQL's documentation, §55.2.1).
fn md5(password: &str, user: &[u8], salt: &[u8]) -> Zeroizing<String> {
    let hex = |parts: [&[u8]; 2]| {
        let mut hash = Md5::new();
        parts.iter().for_each(|part| hash.update(part));
        let digits = hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Zeroizing::new(digits)
    };
    let inner: Zeroizing<String> = hex([password.as_bytes(), user]);
    let outer: Zeroizing<String> = hex([inner.as_bytes(), salt]);
    Zeroizing::new(format!("md5{}", outer.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_that_of_the_documentation() {
        let shown = md5("secret", b"me", b"salt");
        assert_eq!(*shown, "md541c83370953958037c7298c50b238bda");
    }
}
