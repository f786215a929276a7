//! Where a credential of the operator's goes: no program knows of it, and each request to its hosts has it. It must never
//! stand beside what a client sends in its place.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::secret::Secret;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::certificate;
use super::spending::Denied;

/// What stands for the secret in a header's value.
const MARK: &str = "{secret}";

/// Bytes of a certificate and those between it and its root: handshakes of TLS take no more by far.
const CHAIN: usize = 64 << 10;

/// Fields that route or frame a request, or are between two neighbours only.
const OURS: [&str; 13] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A place in a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Template {
    /// A header, with `{secret}` in its value.
    Header {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// `Authorization: Basic`, the secret being the password.
    Basic {
        /// The user.
        user: String,
    },
    /// A parameter of the query, the secret being its value.
    Query {
        /// Its name.
        name: String,
    },
    /// No place in a request: a certificate that the server is shown in the handshake of TLS, the secret being its key.
    Certificate {
        /// The certificate and those between it and its root, as PEM.
        chain: String,
    },
}

impl Template {
    /// Whether a request can be written so.
    ///
    /// # Errors
    /// One line.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Header { name, value } => {
                let parsed = HeaderName::try_from(name.as_str());
                let parsed = parsed.map_err(|_| format!("{name:?} is no header's name"))?;
                if OURS.contains(&parsed.as_str()) {
                    return Err(format!("the header {name} is not a credential's to set"));
                }
                if value.matches(MARK).count() != 1 {
                    return Err(format!("the header's value must have {MARK} in it once"));
                }
                let written = HeaderValue::try_from(value.as_str());
                written
                    .map(drop)
                    .map_err(|_| "the header's value has a character that none can have".to_owned())
            }
            Self::Basic { user } if user.contains(':') => {
                Err("the user has a colon, which ends it".to_owned())
            }
            Self::Basic { .. } => Ok(()),
            Self::Query { name } if name.is_empty() => Err("the parameter has no name".to_owned()),
            Self::Query { .. } => Ok(()),
            Self::Certificate { chain } if chain.len() > CHAIN => {
                Err(format!("the certificates are longer than {CHAIN} bytes"))
            }
            Self::Certificate { chain } => certificate::chain(chain).map(drop),
        }
    }

    /// Whether that secret can stand there. One of a request's is looked at when it is put in.
    ///
    /// # Errors
    /// One line without the secret.
    pub fn fits(&self, secret: &Secret) -> Result<(), String> {
        match self {
            Self::Certificate { chain } => certificate::certified(chain, secret).map(drop),
            Self::Header { .. } | Self::Basic { .. } | Self::Query { .. } => Ok(()),
        }
    }

    /// Puts the secret there, in place of what the client has there.
    ///
    /// # Errors
    /// [`Denied`]: it cannot stand there.
    pub(super) fn put(
        &self,
        secret: &Secret,
        headers: &mut HeaderMap,
        query: &mut Option<String>,
    ) -> Result<(), Denied> {
        let unfit = || Denied(vault::placeholder::Unfit.to_string());
        let (name, value) = match self {
            Self::Query { name } => {
                *query = Some(with(query.as_deref(), name, secret));
                return Ok(());
            }
            Self::Header { name, value } => {
                let name = HeaderName::try_from(name.as_str()).map_err(|_| unfit())?;
                (
                    name,
                    Zeroizing::new(value.replacen(MARK, secret.expose(), 1)),
                )
            }
            Self::Basic { user } => {
                let pair = Zeroizing::new(format!("{user}:{}", secret.expose()));
                let pair = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
                (
                    AUTHORIZATION,
                    Zeroizing::new(format!("Basic {}", pair.as_str())),
                )
            }
            // Shown when the connection was made.
            Self::Certificate { .. } => return Ok(()),
        };
        let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| unfit())?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(())
    }
}

/// A query with that parameter, and no other of its name.
fn with(query: Option<&str>, name: &str, secret: &Secret) -> String {
    let parts = query.unwrap_or_default().split('&');
    let others = parts.filter(|part| {
        let named = form_urlencoded::parse(part.as_bytes()).next();
        !part.is_empty() && named.is_none_or(|(key, _)| key != name)
    });
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let own = format!("{}={}", encoded(name), encoded(secret.expose()));
    let all: Vec<&str> = others.chain([own.as_str()]).collect();
    all.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, value: &str) -> Template {
        let (name, value) = (name.to_owned(), value.to_owned());
        Template::Header { name, value }
    }

    #[test]
    fn what_a_client_sends_in_its_place_is_replaced_however_it_is_written() {
        let secret = Secret::new("a b&c".to_owned());
        for (query, expected) in [
            (None, "key=a+b%26c"),
            (Some(""), "key=a+b%26c"),
            (
                Some("x=1&key=mine&k%65y=mine&keys=2&key"),
                "x=1&keys=2&key=a+b%26c",
            ),
        ] {
            assert_eq!(with(query, "key", &secret), expected, "{query:?}");
        }
        let mut headers = HeaderMap::new();
        headers.append("x-key", HeaderValue::from_static("mine"));
        headers.append("x-key", HeaderValue::from_static("mine too"));
        let put = header("X-Key", "v1 {secret}").put(&secret, &mut headers, &mut None);
        assert_eq!(put, Ok(()));
        let all: Vec<_> = headers.get_all("x-key").iter().collect();
        assert_eq!(all, ["v1 a b&c"]);
        let breaks = Secret::new("a\r\nb".to_owned());
        assert!(
            header("x", "{secret}")
                .put(&breaks, &mut headers, &mut None)
                .is_err()
        );
    }

    #[test]
    fn what_routes_or_frames_a_request_is_no_place_and_each_wrong_one_is_named() {
        assert_eq!(header("X-Key", "token {secret}").check(), Ok(()));
        for (wrong, what) in [
            (header("Host", "{secret}"), "Host"),
            (header("transfer-encoding", "{secret}"), "transfer-encoding"),
            (header("a b", "{secret}"), "a b"),
            (header("X-Key", "token"), "{secret}"),
            (header("X-Key", "{secret}{secret}"), "once"),
            (header("X-Key", "{secret}\n"), "character"),
            (
                Template::Basic {
                    user: "a:b".to_owned(),
                },
                "colon",
            ),
            (
                Template::Query {
                    name: String::new(),
                },
                "name",
            ),
        ] {
            let problem = wrong.check().unwrap_err();
            assert!(problem.contains(what), "{problem}");
        }
    }
}
