//! TLS that is looked into: it ends here with a certificate of the sandbox's own authority, and what is inside is
//! carried as requests. It must never be done where no rule has to see inside, nor for a name that the connection
//! is not for.

use std::io::Cursor;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::ahead::Ahead;
use super::answer::{Refusal, reset};
use super::carried::Spoken;
use super::flow::{Flow, Judged};
use super::http::{self, Channel, Scope};
use super::limits::{HANDSHAKE, READ};
use super::line::Socket;
use super::upstream::Upstream;
use super::{password, redis};
use crate::limits;

/// Carries a client's TLS that begins with `first`; its server name was held to the connection's. Nothing was said
/// yet over `upstream`. What is inside is requests of HTTP; if the policy let it through whatever it is (`judged`), it may
/// also be a protocol with a password.
pub(super) async fn intercept(
    flow: Flow,
    client: TcpStream,
    upstream: Option<Upstream>,
    first: Vec<u8>,
    judged: Option<Judged<'_>>,
) {
    let config = flow
        .carried
        .ca
        .server(&flow.target, flow.carried.host.now());
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            let reason = format!("no certificate can be made for {}: {error}", flow.target);
            flow.record_refusal("tls", &failed(&flow, &reason), None)
                .await;
            return reset(client);
        }
    };
    let client = Ahead::new(&first, client);
    let accepting = TlsAcceptor::from(config).accept(client);
    let problem = match timeout(HANDSHAKE, accepting).await {
        Ok(Ok(client)) => return inside(flow, client, upstream, judged).await,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("nothing for {} s", HANDSHAKE.as_secs()),
    };
    let reason = format!(
        "the client ended the handshake of TLS ({problem}): does it trust the certificates in {}?",
        crate::intercept::BUNDLE
    );
    flow.record_refusal("tls", &failed(&flow, &reason), None)
        .await;
}

/// Goes on with what is inside.
async fn inside(
    flow: Flow,
    mut client: TlsStream<Ahead>,
    upstream: Option<Upstream>,
    judged: Option<Judged<'_>>,
) {
    let (None, Some(judged)) = (client.get_ref().1.alpn_protocol(), judged) else {
        return requests(flow, client, upstream, &[]).await;
    };
    // A client that has not said what it speaks in there says it now, whatever it speaks.
    let mut first = Vec::with_capacity(READ);
    while matches!(first.as_slice(), [] | [b'*']) {
        let more = timeout(limits::HEAD_TIME, client.read_buf(&mut first)).await;
        if !matches!(more, Ok(Ok(1..))) {
            break;
        }
    }
    if !redis::begins(&first) {
        return requests(flow, client, upstream, &first).await;
    }
    let (read, write) = tokio::io::split(client);
    let line = tokio::io::join(AsyncReadExt::chain(Cursor::new(first.clone()), read), write);
    let line = (Box::new(line) as password::Line, first.as_slice());
    Box::pin(password::carry(flow, line, Spoken::Tls, upstream, judged)).await;
}

async fn requests(flow: Flow, client: TlsStream<Ahead>, upstream: Option<Upstream>, first: &[u8]) {
    let scope = Scope::new(&flow.carried.host.tasks);
    let _ends_with_this = scope.guard();
    let is_two = client.get_ref().1.alpn_protocol() == Some(b"h2");
    let channel = Arc::new(Channel::new(flow, Spoken::Tls, scope));
    if let Some(upstream) = upstream {
        channel.keep_blank(upstream);
    }
    if is_two {
        http::serve_two(channel, client).await;
    } else {
        http::serve_one(channel, client, first).await;
    }
}

fn failed(flow: &Flow, reason: &str) -> Refusal {
    Refusal {
        status: 502,
        rule: "tls".to_owned(),
        reason: format!("{}:{} failed: {reason}", flow.target, flow.port),
    }
}

impl Socket for TlsStream<Ahead> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0.tcp()
    }
}
