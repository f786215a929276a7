//! Logins to PostgreSQL with a credential that the client does not have: it shows its placeholder, and the server is
//! shown that the secret is known. The secret must never reach the client, nor a server in clear text, nor one that the
//! credential is not for.
//!
//! The client is asked for its password in clear, on the part of the way that ends here: in its own sandbox's network,
//! in TLS if it wants that. Towards the server the login is done by whatever the server asks for, in TLS whose
//! certificate is held against the target. What follows is passed on as it comes, the secret looked for on its way back.

mod login;
mod scram;
mod wire;

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

pub(super) use self::wire::Start;
use self::wire::{Wish, fatal};
use super::answer::Refusal;
use super::carried::Spoken;
use super::flow::Flow;
use super::limits::HANDSHAKE;
use super::password::{Line, Protocol, in_tls, refused};
use super::upstream::Failure;
use crate::inject::Spending;

/// What a client may ask for before it begins: TLS and Kerberos' encryption, each once.
const WISHES: usize = 3;

/// Whether a client that begins so speaks this protocol.
pub(super) fn begins(first: &[u8]) -> bool {
    Wish::of(first).is_some()
}

impl Protocol for Start {
    const NAME: &'static str = "postgres";

    async fn greet(flow: &Flow, client: Line, _: Spoken) -> Result<(Line, Self), Refusal> {
        let gone = |error: io::Error| {
            let what = format!("the client's start is malformed or ends early ({error})");
            refused(flow, 400, "protocol", &what)
        };
        let mut line = client;
        let mut is_tls = false;
        for _ in 0..WISHES {
            let start = Start::read(&mut line).await.map_err(gone)?;
            match start.wish {
                Wish::Start | Wish::Cancel => return Ok((line, start)),
                Wish::Tls if !is_tls => {
                    line.write_all(b"S").await.map_err(gone)?;
                    line = accepted(flow, line).await?;
                    is_tls = true;
                }
                Wish::Gss | Wish::Tls => line.write_all(b"N").await.map_err(gone)?,
            }
        }
        let what = "the client asks for encryption again and again";
        Err(refused(flow, 400, "protocol", what))
    }

    /// In TLS if the server speaks that.
    async fn secure(&self, flow: &Flow, mut stream: TcpStream) -> Result<(Line, bool), Failure> {
        const TLS: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
        let gone = |error: io::Error| {
            Failure::Unreachable(format!("it does not say whether it speaks TLS ({error})"))
        };
        stream.write_all(TLS).await.map_err(gone)?;
        match stream.read_u8().await.map_err(gone)? {
            b'S' => Ok((in_tls(flow, stream).await?, true)),
            b'N' => Ok((Box::new(stream), false)),
            _ => Err(Failure::Unreachable("it speaks no PostgreSQL".to_owned())),
        }
    }

    async fn log_in(
        &self,
        flow: &Flow,
        client: &mut Line,
        server: &mut Line,
        spending: Option<&Spending>,
    ) -> Result<bool, Refusal> {
        let said = server.write_all(&self.bytes).await;
        said.map_err(|error| {
            let what = format!("the server ended the login ({error})");
            refused(flow, 502, "upstream", &what)
        })?;
        match self.wish {
            Wish::Cancel => Ok(true),
            _ => login::log_in(flow, client, server, self, spending).await,
        }
    }

    fn refusal(reason: &str) -> Vec<u8> {
        fatal(reason).to_vec()
    }
}

/// TLS with a client, as the server that it wants to speak with.
async fn accepted(flow: &Flow, line: Line) -> Result<Line, Refusal> {
    let failed = |what: String| refused(flow, 502, "tls", &what);
    let config = flow
        .carried
        .ca
        .server(&flow.target, flow.carried.host.now());
    let config = config.map_err(|error| failed(format!("no certificate can be made: {error}")))?;
    let mut config = (*config).clone();
    // Newer clients say so, and older ones say nothing.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    let accepting = TlsAcceptor::from(Arc::new(config)).accept(line);
    match timeout(HANDSHAKE, accepting).await {
        Ok(Ok(tls)) => Ok(Box::new(tls)),
        Ok(Err(error)) => Err(failed(format!(
            "the client ended the handshake of TLS ({error})"
        ))),
        Err(_) => Err(failed(
            "the client's handshake of TLS took too long".to_owned(),
        )),
    }
}
