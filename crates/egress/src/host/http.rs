//! A request in clear text: one on each connection, so that nothing follows it that nobody has judged. It must
//! never pass on a head other than the one that was judged, nor a byte behind the request's end.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::answer::{Refusal, reset};
use super::bytes::{Counts, both_ways, pass};
use super::carried::{Asked, Spoken, end};
use super::flow::{Flow, Judged};
use super::speech::Speech;
use super::upstream::{Upstream, dial};
use crate::audit::{Action, Kind, Record};
use crate::http1::{self, Body, Head, Header, Parsed, TargetForm, Upgrade};
use crate::identity::check_authority;
use crate::limits;
use crate::path::Path;
use crate::policy::{Explanation, Mcp, Request, Seen, Verdict};

mod body;

/// What is kept of a request for its record, and to go on with it.
struct Judgement {
    head: Vec<u8>,
    method: String,
    path: Path,
    body: Body,
    upgrade: Upgrade,
    why: Explanation,
    observed: bool,
}

/// Carries a connection that begins with `bytes`, which are HTTP.
pub(super) async fn carry(
    flow: Flow,
    mut client: TcpStream,
    upstream: Option<Upstream>,
    mut bytes: Vec<u8>,
    judged: Judged<'_>,
) {
    let length = match read_head(&mut client, &mut bytes).await {
        Ok(length) => length,
        Err(refusal) => return flow.refuse(client, &Speech::Http, refusal, None).await,
    };
    let rest = bytes.split_off(length);
    let Ok(Parsed::Head(head, _)) = http1::parse(&bytes) else {
        // It was whole a moment ago.
        return reset(client);
    };
    let judgement = match judge(&flow, &head) {
        Ok(judgement) => judgement,
        Err(refusal) => return flow.refuse(client, &Speech::Http, refusal, None).await,
    };
    let upstream = match upstream {
        Some(upstream) => Ok(upstream),
        None => {
            let (resolver, attempt) = (&flow.carried.host.resolver, flow.attempt(judged.seen));
            // The request was let through; its addresses are judged by what was seen of the connection.
            let mut by = judged.decision;
            by.verdict = Verdict::Allow;
            dial(resolver, &judged.policy, &attempt, &by).await
        }
    };
    match upstream {
        Ok(upstream) => exchange(&flow, client, upstream, rest, judgement).await,
        Err(failure) => {
            let (policy, seen) = (&judged.policy, judged.seen);
            flow.fail(client, policy, &Speech::Http, seen, failure)
                .await;
        }
    }
}

/// Reads until the head is whole, and says how long it is.
async fn read_head(client: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<usize, Refusal> {
    let refusal = |status, reason| Refusal {
        status,
        rule: "protocol".to_owned(),
        reason,
    };
    let reading = async {
        loop {
            match http1::parse(bytes) {
                Ok(Parsed::Head(_, length)) => return Ok(length),
                Ok(Parsed::More) => {}
                Err(error) => return Err(refusal(error.status(), format!("denied: {error}"))),
            }
            if !matches!(client.read_buf(bytes).await, Ok(1..)) {
                return Err(refusal(
                    400,
                    "denied: the request's head ends early".to_owned(),
                ));
            }
        }
    };
    match timeout(limits::HEAD_TIME, reading).await {
        Ok(read) => read,
        Err(_) => {
            let seconds = limits::HEAD_TIME.as_secs();
            Err(refusal(
                408,
                format!("denied: the request's head took more than {seconds} s"),
            ))
        }
    }
}

/// Judges one request by the policy that is in force now.
fn judge(flow: &Flow, head: &Head<'_>) -> Result<Judgement, Refusal> {
    if let Err(why) = check_authority(&flow.target, flow.port, &head.authority) {
        return Err(Refusal {
            status: 421,
            rule: "names".to_owned(),
            reason: format!("{}:{} denied: {why}", flow.target, flow.port),
        });
    }
    let root = Path::parse("/").expect("the root is a path");
    let path = match &head.target {
        TargetForm::Path(path, _) => path,
        TargetForm::Asterisk => &root,
    };
    let request = Request {
        method: head.method,
        path,
        // What it would call stands in its body, which is not read here: no rule that names tools lets it through.
        mcp: Mcp::No,
    };
    let policy = flow.carried.policy();
    let attempt = flow.attempt(Seen::Request(request));
    let (decision, why) = policy.explain(&attempt);
    if decision.verdict != Verdict::Allow {
        return Err(Refusal {
            status: 403,
            rule: why.rule,
            reason: why.reason,
        });
    }
    Ok(Judgement {
        head: forwarded(head),
        method: head.method.to_owned(),
        path: path.clone(),
        body: head.body,
        upgrade: head.upgrade,
        why,
        observed: decision.observed,
    })
}

/// The head as it is passed on. The server is to close after its answer, unless the connection becomes a
/// WebSocket.
fn forwarded(head: &Head<'_>) -> Vec<u8> {
    if head.upgrade == Upgrade::WebSocket {
        return head.write();
    }
    let of_connection = ["connection", "keep-alive", "proxy-connection", "upgrade"];
    let mut head = head.clone();
    head.upgrade = Upgrade::None;
    head.headers
        .retain(|header| !of_connection.iter().any(|name| header.is(name)));
    head.headers.push(Header {
        name: "Connection",
        value: b"close",
    });
    head.write()
}

/// Passes the request on and the answer back.
async fn exchange(
    flow: &Flow,
    mut client: TcpStream,
    upstream: Upstream,
    rest: Vec<u8>,
    judgement: Judgement,
) {
    let Upstream {
        mut stream,
        address,
        ..
    } = upstream;
    let asked = Asked {
        method: judgement.method.clone(),
        path: judgement.path.clone(),
    };
    let Some(registered) = flow.register(Spoken::Http, Some(asked), address) else {
        return end(client, stream);
    };
    let counts = Counts::default();
    let mut status = None;
    let whole = async {
        stream.write_all(&judgement.head).await?;
        let length = judgement.head.len() as u64;
        counts.out.fetch_add(length, Ordering::Relaxed);
        if judgement.upgrade == Upgrade::WebSocket {
            return upgrade(&mut client, &mut stream, &rest, &counts, &mut status).await;
        }
        answer(
            &mut client,
            &mut stream,
            &rest,
            judgement.body,
            &counts,
            &mut status,
        )
        .await
    };
    let revoked = tokio::select! {
        ended = whole => { let _either_way = ended; false }
        () = registered.revoked.cancelled() => true,
    };
    let mut reason = judgement.why.reason;
    if revoked {
        end(client, stream);
        reason.push_str("; ended by a change of policy");
    }
    let action = if judgement.observed {
        Action::Observed
    } else {
        Action::Allowed
    };
    let record = Record {
        address: Some(address),
        method: Some(judgement.method),
        path: Some(judgement.path.as_str().to_owned()),
        bytes_out: counts.out.load(Ordering::Relaxed),
        bytes_in: counts.back.load(Ordering::Relaxed),
        upstream_status: status,
        ..flow.record(Kind::Request, "http", action, &judgement.why.rule, reason)
    };
    let _ = flow.carried.host.audit.record(record).await;
}

/// The body one way and the answer the other, until the server has said all of it.
async fn answer(
    client: &mut TcpStream,
    server: &mut TcpStream,
    rest: &[u8],
    framing: Body,
    counts: &Counts,
    status: &mut Option<u16>,
) -> std::io::Result<()> {
    let (client_read, mut client_write) = client.split();
    let (mut server_read, server_write) = server.split();
    let out = body::pass(framing, rest, client_read, server_write, &counts.out);
    let back = async {
        let first = first_line(&mut server_read, status).await?;
        client_write.write_all(&first).await?;
        counts.back.fetch_add(first.len() as u64, Ordering::Relaxed);
        pass(server_read, client_write, &counts.back).await
    };
    let mut back = std::pin::pin!(back);
    tokio::select! {
        // A server may answer before it has taken the body; the answer is what counts.
        ended = &mut back => ended,
        sent = out => {
            // A body that is malformed ends the connection: nothing behind it is a request.
            sent?;
            back.await
        }
    }
}

/// Lets a WebSocket through when the server agrees to it; any other answer is the last thing on the connection.
async fn upgrade(
    client: &mut TcpStream,
    server: &mut TcpStream,
    rest: &[u8],
    counts: &Counts,
    status: &mut Option<u16>,
) -> std::io::Result<()> {
    let first = first_line(server, status).await?;
    client.write_all(&first).await?;
    counts.back.fetch_add(first.len() as u64, Ordering::Relaxed);
    if *status == Some(101) {
        server.write_all(rest).await?;
        counts.out.fetch_add(rest.len() as u64, Ordering::Relaxed);
        return both_ways(client, server, counts).await;
    }
    let ((_, client_write), (server_read, _)) = (client.split(), server.split());
    pass(server_read, client_write, &counts.back).await
}

/// The beginning of the answer, with at least its status.
async fn first_line(
    server: &mut (impl tokio::io::AsyncRead + Unpin),
    status: &mut Option<u16>,
) -> std::io::Result<Vec<u8>> {
    /// `HTTP/1.1 200`
    const STATUS_END: usize = 12;
    let mut first = Vec::with_capacity(1024);
    while first.len() < STATUS_END {
        if server.read_buf(&mut first).await? == 0 {
            break;
        }
    }
    let digits = first
        .get(9..STATUS_END)
        .and_then(|digits| std::str::from_utf8(digits).ok());
    *status = digits.and_then(|digits| digits.parse().ok());
    Ok(first)
}
