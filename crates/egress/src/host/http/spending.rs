//! Credentials in one request and its answer: put in when the request may go, taken out of what comes back. It must
//! never let a request out for which one is missing, nor an answer back in which none could be looked for.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use vault::scrub::Forms;

use super::super::answer::Refusal;
use super::super::bytes::Counts;
use super::super::carried::Spoken;
use super::super::limits::{JUDGED_BODY, UNPACKED_BODY};
use super::asking::Asking;
use super::body::Sent;
use super::turned::{Got, Scrub, Turned, scrub};
use super::way::Channel;
use crate::inject::{Body, Denied, Packed, RULE, Spending, Unpack};

impl Channel {
    /// Whether a body of that length is read before it is sent on: to have its new length known, or to be sent twice.
    pub(super) fn reads_body(&self, length: Option<u64>) -> bool {
        let credentials = self.flow.carried.credentials();
        length.is_some_and(|length| length <= JUDGED_BODY as u64)
            && (credentials.cover_bodies(&self.flow.target)
                || credentials.may_renew(&self.flow.target))
    }

    /// Puts credentials into a request that may go.
    ///
    /// # Errors
    /// One of them cannot go there; nothing was sent.
    pub(super) async fn spend(
        &self,
        asking: &mut Asking,
        body: Sent,
        counts: &Arc<Counts>,
    ) -> Result<(Option<Arc<Spending>>, Sent), Refusal> {
        let credentials = self.flow.carried.credentials();
        let (target, is_tls) = (&self.flow.target, self.spoken == Spoken::Tls);
        let Some(spending) = Spending::of(&credentials, target, is_tls) else {
            return Ok((None, body));
        };
        let (to, headers, query) = asking.head(&self.flow);
        spending
            .head(to, headers, query)
            .map_err(|why| self.denied(&why))?;
        if spending.forms().is_some() {
            Spending::ask_readable(headers);
        }
        if body.is_end_stream() {
            return Ok((Some(spending), body));
        }
        let plan = spending.body(headers);
        let packed = if plan.changes {
            Unpack::of(headers)
        } else {
            Packed::Not
        };
        let unpack = match packed {
            // What is in it nobody here can know: it goes as it is.
            Packed::Otherwise(_) => return Ok((Some(spending), body)),
            Packed::So(unpack) => Some(unpack),
            Packed::Not => None,
        };
        let is_short = body.size_hint().exact();
        let is_short = is_short.is_some_and(|length| length <= JUDGED_BODY as u64);
        // What may have to be sent twice is kept.
        let is_read = plan.changes || spending.is_renewable();
        let body = if is_read && is_short && !body.waits() {
            self.put_in(headers, body, unpack, plan, counts).await?
        } else {
            if plan.changes {
                headers.remove(CONTENT_LENGTH);
            }
            if unpack.is_some() {
                headers.remove(CONTENT_ENCODING);
            }
            Sent::Spent(Box::new(Turned::new(body, unpack, plan.stream())))
        };
        Ok((Some(spending), body))
    }

    /// A short body with credentials put in; one with nothing to be put in goes as it came.
    async fn put_in(
        &self,
        headers: &mut HeaderMap,
        body: Sent,
        unpack: Option<Unpack>,
        plan: Body,
        counts: &Arc<Counts>,
    ) -> Result<Sent, Refusal> {
        let early = || Refusal {
            status: 400,
            rule: "protocol".to_owned(),
            reason: "denied: the request's body ends early or is malformed".to_owned(),
        };
        let whole = Limited::new(body, JUDGED_BODY).collect().await;
        let whole = whole.map_err(|_| early())?.to_bytes();
        // Not sent yet.
        counts.out.store(0, Ordering::Relaxed);
        let unpacked = match unpack {
            None => None,
            Some(unpack) => {
                let unpacked = unpack.whole(&whole, UNPACKED_BODY);
                let too_long = || {
                    let what = "its body is no such archive, or too long when it is unpacked";
                    self.denied(&Denied(what.to_owned()))
                };
                Some(unpacked.ok_or_else(too_long)?)
            }
        };
        let plain = unpacked.as_deref().unwrap_or(&whole);
        let replaced = plan.whole(plain).map_err(|why| self.denied(&why))?;
        let Some(replaced) = replaced else {
            return Ok(Sent::whole(whole, Arc::clone(counts)));
        };
        headers.remove(CONTENT_ENCODING);
        if headers.contains_key(CONTENT_LENGTH) {
            headers.insert(CONTENT_LENGTH, replaced.len().into());
        }
        Ok(Sent::whole(Bytes::from_owner(replaced), Arc::clone(counts)))
    }

    /// An answer without the secrets that its server may have been told.
    ///
    /// # Errors
    /// It cannot be read, so that nothing can be looked for in it.
    pub(super) async fn received(
        &self,
        response: Response<Incoming>,
        method: &Method,
        spending: Option<&Arc<Spending>>,
    ) -> Result<Response<Got>, Refusal> {
        let Some(forms) = spending.and_then(|spending| spending.forms()) else {
            return Ok(response.map(Got::Plain));
        };
        let (mut parts, body) = response.into_parts();
        scrub(&forms, &mut parts.headers);
        // Nobody is to count on pieces, which are not asked for.
        parts.headers.remove(ACCEPT_RANGES);
        let is_bodiless = *method == Method::HEAD
            || parts.status == StatusCode::SWITCHING_PROTOCOLS
            || body.is_end_stream();
        if is_bodiless {
            return Ok(Response::from_parts(parts, Got::Plain(body)));
        }
        if is_piece(&parts) {
            return Err(self.unreadable("in pieces"));
        }
        let headers = &mut parts.headers;
        let unpack = match Unpack::of(headers) {
            Packed::Not => None,
            Packed::So(unpack) => Some(unpack),
            Packed::Otherwise(how) => return Err(self.unreadable(&format!("packed by {how}"))),
        };
        let length = body.size_hint().exact();
        let is_short = length.is_some_and(|length| length <= JUDGED_BODY as u64);
        let body = if unpack.is_none() && is_short {
            self.scrubbed(headers, body, &forms).await?
        } else {
            headers.remove(CONTENT_LENGTH);
            if unpack.is_some() {
                headers.remove(CONTENT_ENCODING);
            }
            Got::Scrubbed(Box::new(Turned::new(body, unpack, Scrub::new(forms))))
        };
        Ok(Response::from_parts(parts, body))
    }

    /// A short answer, all of it.
    async fn scrubbed(
        &self,
        headers: &mut HeaderMap,
        body: Incoming,
        forms: &Arc<Forms>,
    ) -> Result<Got, Refusal> {
        let early = |_| self.upstream("ended its answer early");
        let whole = body.collect().await.map_err(early)?.to_bytes();
        let whole = forms.whole(&whole).map_or(whole, Bytes::from);
        if headers.contains_key(CONTENT_LENGTH) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(whole.len()));
        }
        Ok(Got::Whole((!whole.is_empty()).then_some(whole)))
    }

    /// It answers in a way in which no credential could be seen.
    fn unreadable(&self, how: &str) -> Refusal {
        let reason = format!(
            "{}:{} failed: it answers {how}, asked for nothing of the kind, and a credential could not be seen in that",
            self.flow.target, self.flow.port
        );
        Refusal {
            status: 502,
            rule: RULE.to_owned(),
            reason,
        }
    }

    pub(super) fn denied(&self, why: &Denied) -> Refusal {
        let flow = &self.flow;
        Refusal {
            status: 403,
            rule: RULE.to_owned(),
            reason: format!("{}:{} denied: {why}", flow.target, flow.port),
        }
    }
}

/// Whether an answer is a part of what is there (RFC 9110 §15.3.7), or several of them.
fn is_piece(parts: &Parts) -> bool {
    const SEVERAL: &[u8] = b"multipart/byteranges";
    let kind = parts.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let kind = kind.and_then(|kind| kind.trim_ascii().get(..SEVERAL.len()));
    parts.status == StatusCode::PARTIAL_CONTENT
        || kind.is_some_and(|kind| kind.eq_ignore_ascii_case(SEVERAL))
}
