//! Logins to Redis with a credential that the client does not have: where a login shows its placeholder, the server is
//! shown the secret. The secret must never reach the client, nor a server in clear text that the operator has not
//! allowed, nor stand in any other command.
//!
//! A client of Redis may log in whenever it likes, and as often (`AUTH`, `HELLO … AUTH`): each of its commands is read
//! as the server reads it, and what is no login goes on as it came. Whether there is TLS is the client's choice, as it
//! is Redis' own: a port speaks it or does not. What the server says is passed on, the secret looked for in it.

mod commands;

use tokio::net::TcpStream;

use super::answer::Refusal;
use super::carried::Spoken;
use super::flow::Flow;
use super::password::{Line, Protocol, Said, Stop, in_tls};
use super::upstream::Failure;
use crate::inject::Spending;

/// A connection, in TLS or not.
pub(super) struct Redis {
    is_tls: bool,
}

/// Whether a client that begins so speaks this protocol: with a command as programs write them. No request of HTTP begins
/// so.
pub(super) fn begins(first: &[u8]) -> bool {
    matches!(first, [b'*', digit, ..] if digit.is_ascii_digit())
}

impl Protocol for Redis {
    const NAME: &'static str = "redis";

    async fn greet(_: &Flow, client: Line, spoken: Spoken) -> Result<(Line, Self), Refusal> {
        let is_tls = spoken == Spoken::Tls;
        Ok((client, Self { is_tls }))
    }

    async fn secure(&self, flow: &Flow, stream: TcpStream) -> Result<(Line, bool), Failure> {
        match self.is_tls {
            true => Ok((in_tls(flow, stream).await?, true)),
            false => Ok((Box::new(stream), false)),
        }
    }

    /// Nothing has to be said before the first command.
    async fn log_in(
        &self,
        _: &Flow,
        _: &mut Line,
        _: &mut Line,
        _: Option<&Spending>,
    ) -> Result<bool, Refusal> {
        Ok(true)
    }

    async fn pass_on(&self, said: Said<'_, '_>) -> Result<(), Stop> {
        commands::pass_on(said).await
    }

    fn refusal(reason: &str) -> Vec<u8> {
        let line = reason.replace(['\r', '\n'], " ");
        format!("-ERR longhand egress: {line}\r\n").into_bytes()
    }
}
