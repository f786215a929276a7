//! Reading request bodies: bounded in bytes and in time, JSON, handed on in UTF-8. It does not look at what
//! the JSON says.

use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use bytes::{Bytes, BytesMut};
use contract::error::{ApiError, ErrorKind};
use contract::limits::BODY_BYTES;
use http_body::Body as _;
use http_body_util::BodyExt;

use crate::limits::{DISCARDED_BYTES, REFUSED_BYTES, REFUSED_TIME};
use crate::shares::Hold;

/// Reads a JSON body; empty if there is none.
///
/// # Errors
/// 400 for a body that is compressed, in another character set, too slow or cut; 413 over 32 MB; 503 while all bodies together take what they may; 415 if there is
/// one and it does not say that it is JSON.
pub(crate) async fn read(
    headers: &HeaderMap,
    mut body: Body,
    idle: Duration,
    hold: &mut Hold,
) -> Result<Bytes, ApiError> {
    let encoding = headers
        .get(CONTENT_ENCODING)
        .map(|value| value.to_str().unwrap_or("?"));
    if encoding.is_some_and(|value| !value.trim().eq_ignore_ascii_case("identity")) {
        return Err(ApiError::invalid(
            "content-encoding: compressed request bodies are not supported; send the body as it is",
        )
        .code("request_body_encoding_unsupported"));
    }
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    if announced.is_some_and(|length| length > BODY_BYTES as u64) {
        discard(&mut body, DISCARDED_BYTES, idle).await;
        return Err(too_large());
    }
    let mut pieces = BytesMut::new();
    loop {
        let piece = match next(&mut body, idle).await {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(cut) => {
                if matches!(cut, Cut::Slow) {
                    hold.stalled();
                }
                return Err(cut.into());
            }
        };
        if pieces.len() + piece.len() > BODY_BYTES {
            discard(&mut body, DISCARDED_BYTES, idle).await;
            return Err(too_large());
        }
        if !hold.take(piece.len()) {
            discard(&mut body, REFUSED_BYTES, idle).await;
            return Err(crowded());
        }
        pieces.extend_from_slice(&piece);
    }
    if pieces.is_empty() {
        return Ok(Bytes::new());
    }
    Ok(match json_type(headers)? {
        Charset::Utf8 => pieces.freeze(),
        // Its 256 characters are the first 256 of Unicode.
        Charset::Latin1 => pieces
            .iter()
            .copied()
            .map(char::from)
            .collect::<String>()
            .into(),
    })
}

/// How the characters of a body are written.
enum Charset {
    Utf8,
    Latin1,
}

/// Why a body does not come to its end.
enum Cut {
    Slow,
    Broken,
}

impl From<Cut> for ApiError {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Slow => ApiError::invalid("the request body arrived too slowly")
                .code("request_body_timeout"),
            Cut::Broken => ApiError::invalid("the request body was cut"),
        }
    }
}

async fn next(body: &mut Body, idle: Duration) -> Result<Option<Bytes>, Cut> {
    loop {
        let frame = tokio::time::timeout(idle, body.frame())
            .await
            .map_err(|_| Cut::Slow)?;
        match frame {
            None => return Ok(None),
            Some(Err(_)) => return Err(Cut::Broken),
            // Trailers carry nothing for us.
            Some(Ok(frame)) => {
                if let Ok(piece) = frame.into_data() {
                    return Ok(Some(piece));
                }
            }
        }
    }
}

/// After a refusal that needed no body: reads a little of it, briefly. Closing a connection on unread
/// bytes resets it, and the client may never see the answer.
pub(crate) async fn refuse(headers: &HeaderMap, mut body: Body) {
    // Such a client waits for our word before it sends anything.
    let waits = headers.contains_key(EXPECT);
    if !waits && !body.is_end_stream() {
        let reading = discard(&mut body, REFUSED_BYTES, REFUSED_TIME);
        // Whether it ended in time makes no difference to the answer.
        let _ = tokio::time::timeout(REFUSED_TIME, reading).await;
    }
}

/// Lets a client that is still sending come to the point where it reads the answer.
async fn discard(body: &mut Body, most: usize, idle: Duration) {
    let mut seen = 0;
    while seen < most {
        match next(body, idle).await {
            Ok(Some(piece)) => seen += piece.len(),
            Ok(None) | Err(_) => return,
        }
    }
}

/// All bodies together are too large: this one may be taken when others are answered.
fn crowded() -> ApiError {
    ApiError::new(
        ErrorKind::Unavailable,
        "the server holds as many bytes of requests as it may; try again",
    )
    .code("request_bodies_full")
    .retry_after(1)
}

fn too_large() -> ApiError {
    ApiError::new(
        ErrorKind::RequestTooLarge,
        format!(
            "the request body is larger than {} MB",
            BODY_BYTES / (1024 * 1024)
        ),
    )
}

fn json_type(headers: &HeaderMap) -> Result<Charset, ApiError> {
    let wrong = || {
        ApiError::new(
            ErrorKind::UnsupportedMediaType,
            "content-type: the body must be `application/json`",
        )
    };
    let value = headers
        .get(CONTENT_TYPE)
        .ok_or_else(wrong)?
        .to_str()
        .map_err(|_| wrong())?;
    let mut parts = value.split(';').map(str::trim);
    if !parts
        .next()
        .is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
    {
        return Err(wrong());
    }
    let charset = parts
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    let Some((_, charset)) = charset else {
        return Ok(Charset::Utf8);
    };
    match charset
        .trim()
        .trim_matches('"')
        .to_ascii_lowercase()
        .as_str()
    {
        // ASCII is UTF-8.
        "utf-8" | "utf8" | "us-ascii" => Ok(Charset::Utf8),
        "iso-8859-1" | "latin1" => Ok(Charset::Latin1),
        _ => Err(ApiError::invalid(
            "content-type: the charset must be utf-8, iso-8859-1 or us-ascii",
        )
        .code("unsupported_charset")),
    }
}
