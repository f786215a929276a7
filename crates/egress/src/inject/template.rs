//! Where a credential of the operator's goes: no program knows of it, and each request to its hosts has it. It must never
//! stand beside what a client sends in its place.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::secret::Secret;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::certificate;
use super::repository::{self, Repository, Shown};
use super::spending::Denied;
use crate::name::Target;
use crate::path::{Path, Reading};

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

/// Where a request goes, before it is written.
#[derive(Clone, Copy)]
pub(crate) struct To<'a> {
    pub(crate) target: &'a Target,
    pub(crate) port: u16,
    pub(crate) method: &'a Method,
    pub(crate) path: &'a Path,
}

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
    /// `Authorization`, in requests about one repository only: as `Basic` for git, as `Bearer` for REST.
    Repository(Repository),
    /// `Authorization: Bearer`, in requests to one server of MCP only.
    McpServer {
        /// Its port.
        port: u16,
        /// Its path, which its requests are at or below.
        path: String,
    },
    /// No place in a request: a certificate that the server is shown in the handshake of TLS, the secret being its key.
    Certificate {
        /// The certificate and those between it and its root, as PEM.
        chain: String,
    },
}

impl Template {
    /// The host of an MCP server, and how requests to it show their token; none if no request of a sandbox is one to it.
    #[must_use]
    pub fn of_mcp_server(url: &str) -> Option<(String, Self)> {
        let url = Url::parse(url).ok()?;
        let host = url.host_str()?.to_owned();
        let template = Self::McpServer {
            port: url.port_or_known_default()?,
            path: match url.path().trim_end_matches('/') {
                "" => "/".to_owned(),
                path => path.to_owned(),
            },
        };
        template.check().ok().map(|()| (host, template))
    }

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
            Self::Repository(repository) => repository.check(),
            Self::McpServer { path, .. } => {
                let read = Path::parse(path).map(drop);
                read.map_err(|why| format!("the path of its server: {why}"))
            }
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
            Self::Header { .. }
            | Self::Basic { .. }
            | Self::Query { .. }
            | Self::McpServer { .. }
            | Self::Repository(_) => Ok(()),
        }
    }

    /// Whether it has anything to do with that request.
    pub(super) fn wants(&self, to: To<'_>, query: Option<&str>) -> bool {
        match self {
            Self::Repository(repository) => repository.shown(to, query).is_some(),
            Self::McpServer { port, path } => {
                let below = |server: Path| to.path.is_below(&server, Reading::Every);
                to.port == *port && Path::parse(path).is_ok_and(below)
            }
            Self::Header { .. }
            | Self::Basic { .. }
            | Self::Query { .. }
            | Self::Certificate { .. } => true,
        }
    }

    /// Puts the secret there, in place of what the client has there.
    ///
    /// # Errors
    /// [`Denied`]: it cannot stand there.
    pub(super) fn put(
        &self,
        secret: &Secret,
        to: To<'_>,
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
            Self::Basic { user } => (AUTHORIZATION, basic(user, secret)),
            Self::McpServer { .. } | Self::Repository(_) => {
                let shown = if let Self::Repository(repository) = self {
                    repository.shown(to, query.as_deref())
                } else {
                    Some(Shown::Bearer)
                };
                let value = match shown {
                    Some(Shown::Basic) => basic("x-access-token", secret),
                    Some(Shown::Bearer) => bearer(secret),
                    None => return Ok(()),
                };
                let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| unfit())?;
                value.set_sensitive(true);
                repository::put(value, headers);
                return Ok(());
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

fn bearer(secret: &Secret) -> Zeroizing<String> {
    Zeroizing::new(format!("Bearer {}", secret.expose()))
}

fn basic(user: &str, secret: &Secret) -> Zeroizing<String> {
    let pair = Zeroizing::new(format!("{user}:{}", secret.expose()));
    let pair = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
    Zeroizing::new(format!("Basic {}", pair.as_str()))
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
    use crate::name::Name;

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
        let to = To {
            target: &Target::Address([192, 0, 2, 1].into()),
            port: 443,
            method: &Method::GET,
            path: &Path::parse("/").unwrap(),
        };
        let put = header("X-Key", "v1 {secret}").put(&secret, to, &mut headers, &mut None);
        assert_eq!(put, Ok(()));
        let all: Vec<_> = headers.get_all("x-key").iter().collect();
        assert_eq!(all, ["v1 a b&c"]);
        let breaks = Secret::new("a\r\nb".to_owned());
        assert!(
            header("x", "{secret}")
                .put(&breaks, to, &mut headers, &mut None)
                .is_err()
        );
    }

    #[test]
    fn what_routes_or_frames_a_request_is_no_place_and_each_wrong_one_is_named() {
        assert_eq!(header("X-Key", "token {secret}").check(), Ok(()));
        for (wrong, what) in [
            (header("Host", "{secret}"), "Host"),
            (header("transfer-encoding", "{secret}"), "transfer-encoding"),
            (
                Template::McpServer {
                    port: 443,
                    path: "/a%2fb".to_owned(),
                },
                "path",
            ),
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

    #[test]
    fn a_token_of_a_server_of_mcp_is_for_its_port_and_what_is_at_or_below_its_path() {
        let (host, template) = Template::of_mcp_server("https://MCP.test/a/mcp/").unwrap();
        assert_eq!(host, "mcp.test");
        let target = &Target::Name(Name::parse(&host).unwrap());
        let wants = |port, path: &str| {
            let (method, path) = (&Method::POST, &Path::parse(path).unwrap());
            let to = To {
                target,
                port,
                method,
                path,
            };
            template.wants(to, None)
        };
        for path in ["/a/mcp", "/a/mcp/", "/a/mcp/sse", "/a/x/../mcp", "/%61/mcp"] {
            assert!(wants(443, path), "{path}");
        }
        for path in [
            "/",
            "/a",
            "/a/mcp2",
            "/A/mcp",
            "/a/mcp/../x",
            "/a//mcp",
            "/a/mcp;x",
        ] {
            assert!(!wants(443, path), "{path}");
        }
        assert!(!wants(8443, "/a/mcp"));
        // Nor is it for the path that a header names instead.
        let mut headers = HeaderMap::new();
        for name in ["x-original-url", "X-Rewrite-URL", "authorization"] {
            headers.insert(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_static("/admin"),
            );
        }
        let (method, path) = (&Method::POST, &Path::parse("/a/mcp").unwrap());
        let to = To {
            target,
            port: 443,
            method,
            path,
        };
        let put = template.put(
            &Secret::new("s3cr3t".to_owned()),
            to,
            &mut headers,
            &mut None,
        );
        assert_eq!(put, Ok(()));
        assert_eq!(headers.len(), 1, "{headers:?}");
        assert_eq!(headers[AUTHORIZATION], "Bearer s3cr3t");
        let root = Template::of_mcp_server("http://mcp.test:81");
        let (port, path) = (81, "/".to_owned());
        assert_eq!(
            root,
            Some(("mcp.test".to_owned(), Template::McpServer { port, path }))
        );
        for none in ["mcp.test", "https://", "https://mcp.test/a%2fb"] {
            assert_eq!(Template::of_mcp_server(none), None, "{none}");
        }
    }
}
