//! The headers of a model request: the dialect's, the operator's or the vault's further ones, the key. It must
//! never let a setting replace the key or the framing.

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::endpoint::Dialect;
use crate::error::Error;
use crate::judge::Context;

/// Headers that the endpoint's settings may not set: they carry the key or the framing.
const OURS: [&str; 8] = [
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "accept",
    "accept-encoding",
    "te",
];

/// The headers of a request to the endpoint.
///
/// # Errors
/// A setting that no header can carry, or that may not be set.
pub(crate) fn of(context: Context<'_>) -> Result<HeaderMap, Error> {
    let endpoint = context.endpoint;
    let key_header = endpoint.dialect.key_header();
    let mut map = HeaderMap::new();
    map.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    map.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    if endpoint.dialect == Dialect::AnthropicMessages {
        map.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    }
    for (name, value) in &endpoint.headers {
        let header = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| context.settings(format!("{name:?} is no header name")))?;
        if header == key_header || OURS.contains(&header.as_str()) {
            return Err(context.settings(format!("the header {name} cannot be set")));
        }
        let mut value = HeaderValue::from_str(value).map_err(|_| {
            context.settings(format!(
                "the value of header {name} has forbidden characters"
            ))
        })?;
        value.set_sensitive(true);
        map.insert(header, value);
    }
    let key = match endpoint.dialect {
        Dialect::AnthropicMessages => zeroize::Zeroizing::new(endpoint.key.expose().to_owned()),
        Dialect::OpenAiChat | Dialect::OpenAiResponses => {
            zeroize::Zeroizing::new(format!("Bearer {}", endpoint.key.expose()))
        }
    };
    let mut key = HeaderValue::from_str(&key).map_err(|_| {
        context.settings(format!(
            "the key from {} has characters that no header can carry",
            endpoint.key_source
        ))
    })?;
    key.set_sensitive(true);
    map.insert(key_header, key);
    Ok(map)
}
