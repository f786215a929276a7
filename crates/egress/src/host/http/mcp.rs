//! What a request asks of a server of the Model Context Protocol, read from its body (JSON-RPC 2.0) where a rule
//! names tools. It must never take one of two readings: what servers could read differently is an error.

use std::fmt;

use http::header::CONTENT_ENCODING;
use http::{HeaderMap, Method};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::policy::Mcp;

/// Messages of one body.
const MESSAGES: usize = 64;

/// One message of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Call {
    /// It is none, or no rule asks.
    No,
    /// Part of the protocol that calls nothing.
    Session,
    /// A call of that tool.
    Tool(String),
}

impl Call {
    pub(in super::super) fn as_mcp(&self) -> Mcp<'_> {
        match self {
            Self::No => Mcp::No,
            Self::Session => Mcp::Session,
            Self::Tool(name) => Mcp::Call(name),
        }
    }
}

/// What a request with that body asks, message by message.
///
/// # Errors
/// One line: it cannot be told.
pub(super) fn calls(
    method: &Method,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Vec<Call>, String> {
    if body.is_empty() {
        // To listen, or to end the session.
        let of_session = matches!(method.as_str(), "GET" | "DELETE" | "HEAD" | "OPTIONS");
        return Ok(vec![if of_session { Call::Session } else { Call::No }]);
    }
    if headers.contains_key(CONTENT_ENCODING) {
        return Err("its body is compressed".to_owned());
    }
    let wrong = |error: serde_json::Error| format!("its body is no JSON-RPC: {error}");
    if body.trim_ascii_start().first() == Some(&b'[') {
        let all: Vec<Fields> = serde_json::from_slice(body).map_err(wrong)?;
        if all.is_empty() || all.len() > MESSAGES {
            return Err(format!("a batch has 1 to {MESSAGES} messages"));
        }
        return all.iter().map(call).collect();
    }
    let one: Fields = serde_json::from_slice(body).map_err(wrong)?;
    Ok(vec![call(&one)?])
}

fn call(message: &Fields) -> Result<Call, String> {
    let Some(method) = message.get("method") else {
        // An answer to the server's own question.
        return Ok(Call::Session);
    };
    let method: String =
        serde_json::from_str(method.get()).map_err(|_| "its `method` is no text".to_owned())?;
    if method != "tools/call" {
        return Ok(Call::Session);
    }
    let params = message.get("params").ok_or("its call has no `params`")?;
    let params: Fields = serde_json::from_str(params.get()).map_err(|error| error.to_string())?;
    let name = params.get("name").ok_or("its call names no tool")?;
    let name = serde_json::from_str(name.get()).map_err(|_| "its tool's name is no text")?;
    Ok(Call::Tool(name))
}

/// An object of which no two keys are alike: some servers take the first of two, some the last, and some do not
/// tell upper from lower case.
struct Fields(Vec<(String, Box<RawValue>)>);

impl Fields {
    fn get(&self, key: &str) -> Option<&RawValue> {
        let found = self
            .0
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(key));
        found.map(|(_, value)| value.as_ref())
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields: Vec<(String, Box<RawValue>)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if fields.len() >= MESSAGES {
                        return Err(serde::de::Error::custom("an object has too many keys"));
                    }
                    if fields
                        .iter()
                        .any(|(name, _)| name.eq_ignore_ascii_case(&key))
                    {
                        return Err(serde::de::Error::custom("a key stands there twice"));
                    }
                    fields.push((key, value));
                }
                Ok(Fields(fields))
            }
        }
        from.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Vec<Call>, String> {
        calls(&Method::POST, &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn calls_are_told_from_the_rest_of_the_protocol_one_by_one() {
        let tool = |name: &str| Call::Tool(name.to_owned());
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":{}}}"#;
        assert_eq!(read(call).unwrap(), [tool("read")]);
        let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        assert_eq!(
            read(&format!("[{call},{list}]")).unwrap(),
            [tool("read"), Call::Session]
        );
        let escaped = r#"{"method":"tools\/call","params":{"n\u0061me":"wr\u0069te"}}"#;
        assert_eq!(read(escaped).unwrap(), [tool("write")]);
        let get = calls(&Method::GET, &HeaderMap::new(), b"");
        assert_eq!(get.unwrap(), [Call::Session]);
    }

    #[test]
    fn what_two_servers_could_read_in_two_ways_is_refused() {
        for body in [
            r#"{"method":"tools/list","method":"tools/call","params":{"name":"a"}}"#,
            r#"{"method":"tools/call","params":{"name":"a","name":"b"}}"#,
            r#"{"method":"tools/call","params":{"name":"a","Name":"b"}}"#,
            r#"{"method":"tools/call","params":["a"]}"#,
            r#"{"method":"tools/call"}"#,
            r#"{"method":["tools/call"]}"#,
            r#"{"method":"tools/list"}{"method":"tools/call"}"#,
            "[]",
            "name=a",
        ] {
            assert!(read(body).is_err(), "{body}");
        }
        let mut compressed = HeaderMap::new();
        compressed.insert(CONTENT_ENCODING, "gzip".parse().unwrap());
        assert!(calls(&Method::POST, &compressed, b"{}").is_err());
    }
}
