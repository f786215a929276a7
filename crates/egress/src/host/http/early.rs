//! What a server says before its answer (1xx): that it wants the body, and hints for the client. It must never hold
//! more of that than a few, nor pass on what a connection becomes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Request, StatusCode};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::super::answer;
use super::super::limits::INFORMATIONAL;
use super::asking::drop_hop_by_hop;
use super::body::Sent;
use super::one::{fields, status_line};
use super::turned::scrub;
use crate::inject::Spending;

/// Who hears it. Over HTTP/2 nobody does, from servers or as clients: what speaks that here has no word for it (hyper
/// 1.12; h2 0.4.20 below it has, `poll_informational` and `send_informational`).
#[derive(Clone, Default)]
pub(super) struct Early {
    /// Told when the server wants the body.
    pub(super) wanted: Option<Arc<Notify>>,
    /// Takes what is for the client.
    pub(super) hints: Option<mpsc::Sender<Hint>>,
}

/// An answer of 1xx that says something about the one that counts (RFC 8297).
pub(super) struct Hint {
    status: StatusCode,
    headers: HeaderMap,
}

impl Hint {
    fn of(status: StatusCode, headers: &HeaderMap, spending: Option<&Spending>) -> Self {
        let mut headers = headers.clone();
        drop_hop_by_hop(&mut headers);
        headers.remove(CONTENT_LENGTH);
        for ours in answer::FIELDS {
            headers.remove(ours);
        }
        if let Some(forms) = spending.and_then(Spending::forms) {
            scrub(&forms, &mut headers);
        }
        Self { status, headers }
    }

    /// As a client of HTTP/1.1 reads it.
    pub(super) fn written(&self) -> Vec<u8> {
        let mut out = status_line(self.status);
        fields(&self.headers, &mut out);
        out.extend_from_slice(b"\r\n");
        out
    }
}

/// Has `early` hear what is said before the answer to that request, secrets taken out. What it returns is cancelled
/// when that is too much.
pub(super) fn hear(
    request: &mut Request<Sent>,
    early: Early,
    spending: Option<Arc<Spending>>,
) -> CancellationToken {
    let (flooded, heard) = (CancellationToken::new(), AtomicUsize::new(0));
    let told = flooded.clone();
    hyper::ext::on_informational(request, move |said| {
        // Nothing more is passed on: who hears hints first would hear them for ever, and never that it is too much.
        if heard.fetch_add(1, Ordering::Relaxed) >= INFORMATIONAL {
            told.cancel();
            return;
        }
        match said.status() {
            StatusCode::CONTINUE => {
                if let Some(wanted) = &early.wanted {
                    wanted.notify_one();
                }
            }
            StatusCode::SWITCHING_PROTOCOLS => {}
            status => {
                if let Some(hints) = &early.hints {
                    // There is room for as many as there may be.
                    let _ = hints.try_send(Hint::of(status, said.headers(), spending.as_deref()));
                }
            }
        }
    });
    flooded
}
