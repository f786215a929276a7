//! A request as it is judged, and as it is written to a server: the same, in whatever version of HTTP it came.
//! It must never carry on a field that is between two neighbours only, nor one that routes or frames.

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, TE, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::super::answer::Refusal;
use super::super::flow::Flow;
use super::body::Sent;
use crate::http1::{Head, TargetForm, Upgrade};
use crate::identity::check_authority;
use crate::inject::To;
use crate::limits;
use crate::name::{Authority, Target};
use crate::path::Path;

/// Fields that are between two neighbours only (RFC 9110 §7.6.1), and what our own framing writes anew.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "expect",
];

/// A request.
pub(super) struct Asking {
    pub(super) method: Method,
    pub(super) path: Path,
    query: Option<String>,
    /// It is about the server as a whole (`OPTIONS *`).
    asterisk: bool,
    authority: String,
    headers: HeaderMap,
    /// The client takes fields behind the body.
    trailers: bool,
    /// The connection is to become a WebSocket.
    pub(super) upgrade: bool,
}

impl Asking {
    /// Of HTTP/1.
    ///
    /// # Errors
    /// It is for another host or port than the connection, or cannot be written.
    pub(super) fn of_head(flow: &Flow, head: &Head<'_>) -> Result<Self, Refusal> {
        agree(flow, &head.authority)?;
        let mut headers = HeaderMap::with_capacity(head.headers.len());
        let named = connection_names(head);
        for field in &head.headers {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| unwritable())?;
            if named.iter().any(|named| name.as_str() == named) {
                continue;
            }
            let value = HeaderValue::from_bytes(field.value).map_err(|_| unwritable())?;
            headers.append(name, value);
        }
        let (path, query, asterisk) = match &head.target {
            TargetForm::Path(path, query) => (path.clone(), *query, false),
            TargetForm::Asterisk => (root(), None, true),
        };
        let trailers = headers.get(TE).is_some_and(takes_trailers);
        drop_hop_by_hop(&mut headers);
        Ok(Self {
            method: Method::from_bytes(head.method.as_bytes()).map_err(|_| unwritable())?,
            path,
            query: query.map(str::to_owned),
            asterisk,
            authority: written(&head.authority),
            headers,
            trailers,
            upgrade: head.upgrade == Upgrade::WebSocket,
        })
    }

    /// Of HTTP/2.
    ///
    /// # Errors
    /// As [`Self::of_head`]; also for what no request of a sandbox is.
    pub(super) fn of_parts(flow: &Flow, parts: http::request::Parts) -> Result<Self, Refusal> {
        let bad = |why: String| Refusal {
            status: 400,
            rule: "protocol".to_owned(),
            reason: format!("denied: {why}"),
        };
        let method = parts.method.as_str();
        let upper = |byte: u8| byte.is_ascii_uppercase() || byte == b'-';
        if matches!(method, "CONNECT" | "TRACE" | "TRACK") {
            return Err(Refusal {
                status: 405,
                ..bad(format!("the method {method} does not leave a sandbox"))
            });
        }
        if method.len() > limits::METHOD || !method.bytes().all(upper) {
            return Err(bad("the method is not a word in upper case".to_owned()));
        }
        if parts.uri.scheme_str() != Some("https") {
            return Err(bad(
                "the request's scheme is not that of the connection".to_owned()
            ));
        }
        let authority = parts.uri.authority().map(|authority| authority.as_str());
        let authority =
            authority.ok_or_else(|| bad("the request needs an :authority".to_owned()))?;
        let authority = Authority::parse(authority).map_err(|why| bad(why.to_string()))?;
        agree(flow, &authority)?;
        for host in parts.headers.get_all(HOST) {
            let host = host.to_str().ok().map(Authority::parse);
            match host {
                Some(Ok(host)) => agree(flow, &host)?,
                _ => return Err(bad("the request's host is wrong".to_owned())),
            }
        }
        let query = parts.uri.query();
        if query.is_some_and(|query| query.bytes().any(|b| b"#\"<>\\".contains(&b))) {
            return Err(bad("the query has a byte that must be encoded".to_owned()));
        }
        let path = Path::parse(parts.uri.path()).map_err(|why| bad(why.to_string()))?;
        let mut headers = parts.headers;
        headers.remove(HOST);
        // What HTTP/2 frames needs none; one that a body does not have would take the next request for it.
        headers.remove(CONTENT_LENGTH);
        if headers.len() > limits::HEADERS {
            return Err(Refusal {
                status: 431,
                ..bad(format!(
                    "it has more than {} header fields",
                    limits::HEADERS
                ))
            });
        }
        let trailers = headers.get(TE).is_some_and(takes_trailers);
        drop_hop_by_hop(&mut headers);
        join_cookies(&mut headers);
        Ok(Self {
            method: parts.method.clone(),
            path,
            query: query.map(str::to_owned),
            asterisk: false,
            authority: written(&authority),
            headers,
            trailers,
            upgrade: false,
        })
    }

    /// What credentials are put into, and where it goes.
    pub(super) fn head<'a>(
        &'a mut self,
        flow: &'a Flow,
    ) -> (To<'a>, &'a mut HeaderMap, &'a mut Option<String>) {
        let to = To {
            target: &flow.target,
            port: flow.port,
            method: &self.method,
            path: &self.path,
        };
        (to, &mut self.headers, &mut self.query)
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Whether only HTTP/1 can carry it.
    pub(super) fn only_one(&self) -> bool {
        self.upgrade || self.asterisk
    }

    /// Whether it may be sent a second time when nobody knows what became of the first.
    pub(super) fn is_safe(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS") && !self.upgrade
    }

    /// As it is written to a server that speaks HTTP/1.
    ///
    /// # Errors
    /// Its path has a byte that cannot be written.
    pub(super) fn as_one(
        &self,
        body: Sent,
        expects: bool,
    ) -> Result<Request<Sent>, (Refusal, Sent)> {
        let target = if self.asterisk {
            "*".to_owned()
        } else {
            self.target()
        };
        let (Ok(target), Ok(host)) = (target.parse::<Uri>(), self.authority.parse()) else {
            return Err((unwritable(), body));
        };
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 3);
        headers.insert(HOST, host);
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        if self.trailers {
            headers.insert(CONNECTION, HeaderValue::from_static("TE"));
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        if self.upgrade {
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        if http_body::Body::is_end_stream(&body)
            && matches!(self.method.as_str(), "POST" | "PUT" | "PATCH")
        {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        if expects {
            headers.insert(EXPECT, HeaderValue::from_static("100-continue"));
        }
        let mut request = self.blank(target, headers, body);
        *request.version_mut() = Version::HTTP_11;
        Ok(request)
    }

    /// As it is written to a server that speaks HTTP/2.
    ///
    /// # Errors
    /// As [`Self::as_one`].
    pub(super) fn as_two(&self, body: Sent) -> Result<Request<Sent>, (Refusal, Sent)> {
        let uri = format!("https://{}{}", self.authority, self.target());
        let Ok(uri) = uri.parse::<Uri>() else {
            return Err((unwritable(), body));
        };
        let mut headers = self.headers.clone();
        if self.trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        let mut request = self.blank(uri, headers, body);
        *request.version_mut() = Version::HTTP_2;
        Ok(request)
    }

    /// Bytes of its head, about.
    pub(super) fn length(&self) -> u64 {
        let fields = self.headers.iter();
        let fields: usize = fields
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum();
        let query = self.query.as_ref().map_or(0, |query| query.len() + 1);
        let line = self.method.as_str().len() + self.path.as_str().len() + query;
        (line + self.authority.len() + fields + 22) as u64
    }

    fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path.as_str()),
            None => self.path.as_str().to_owned(),
        }
    }

    fn blank(&self, uri: Uri, headers: HeaderMap, body: Sent) -> Request<Sent> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        request
    }
}

/// Drops what no neighbour's neighbour is to see.
pub(super) fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<_> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// What `Connection` names, in lower case. It names nothing that must stay: the reader has seen to that.
fn connection_names(head: &Head<'_>) -> Vec<String> {
    let fields = head.headers.iter().filter(|field| field.is("connection"));
    fields
        .flat_map(|field| field.value.split(|byte| *byte == b','))
        .map(|name| String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase())
        // Looked at before it is dropped with its like.
        .filter(|name| name != "te")
        .collect()
}

fn takes_trailers(te: &HeaderValue) -> bool {
    te.to_str().is_ok_and(|te| {
        te.split(',')
            .any(|one| one.trim().eq_ignore_ascii_case("trailers"))
    })
}

/// HTTP/2 may have cut one field into several (RFC 9113 §8.2.3), which servers of HTTP/1 do not put together.
fn join_cookies(headers: &mut HeaderMap) {
    let all: Vec<_> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if all.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

/// Holds the request's host to that of its connection.
fn agree(flow: &Flow, authority: &Authority) -> Result<(), Refusal> {
    check_authority(&flow.target, flow.port, authority).map_err(|why| Refusal {
        status: 421,
        rule: "names".to_owned(),
        reason: format!("{}:{} denied: {why}", flow.target, flow.port),
    })
}

fn written(authority: &Authority) -> String {
    let host = match &authority.host {
        Target::Name(name) => name.to_string(),
        Target::Address(std::net::IpAddr::V4(v4)) => v4.to_string(),
        Target::Address(std::net::IpAddr::V6(v6)) => format!("[{v6}]"),
    };
    match authority.port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

fn root() -> Path {
    Path::parse("/").expect("the root is a path")
}

fn unwritable() -> Refusal {
    Refusal {
        status: 400,
        rule: "protocol".to_owned(),
        reason: "denied: the request has a byte that must be encoded".to_owned(),
    }
}
