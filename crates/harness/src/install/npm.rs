//! The npm registry's protocol, as much of it as one package needs: what it offers, and the bytes of it, checked
//! against the digest it names. It unpacks nothing.

use std::path::Path;

use aws_lc_rs::digest::{Context, SHA512};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::secret::Secret;
use reqwest::header::LOCATION;
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use crate::install::InstallError;

/// npm's own.
pub const DEFAULT_REGISTRY: &str = "https://registry.npmjs.org";
/// Bytes of what a registry says of one package, all versions.
const DESCRIPTION_BYTES: usize = 64 * 1024 * 1024;
/// Bytes of one package.
const PACKAGE_BYTES: u64 = 1024 * 1024 * 1024;
/// Mirrors send elsewhere for the bytes; not for ever.
const HOPS: usize = 5;

/// Where packages come from.
#[derive(Debug)]
pub struct Registry {
    /// Its URL.
    pub url: String,
    /// What it wants to be shown; it goes to this host and to no other.
    pub token: Option<Secret>,
}

impl Registry {
    /// One that wants to be shown nothing.
    #[must_use]
    pub fn open(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            token: None,
        }
    }

    /// Asks for something there, or where it sends.
    fn request(&self, client: &reqwest::Client, url: &Url) -> RequestBuilder {
        let request = client.get(url.clone());
        let own = Url::parse(&self.url);
        match &self.token {
            Some(token) if own.is_ok_and(|own| own.origin() == url.origin()) => {
                request.bearer_auth(token.expose())
            }
            _ => request,
        }
    }
}

/// One version of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) tarball: String,
    /// `sha512-` and base64.
    pub(crate) integrity: String,
}

#[derive(Deserialize)]
struct Dist {
    tarball: String,
    integrity: Option<String>,
}

/// What the registry offers as that version.
pub(crate) async fn offer(
    client: &reqwest::Client,
    registry: &Registry,
    package: &str,
    version: &str,
) -> Result<Offer, InstallError> {
    let problem = |problem: String| wrong(registry, problem);
    let name = package.replace('/', "%2f");
    let url = format!("{}/{name}", registry.url.trim_end_matches('/'));
    let mut response = get(client, registry, &url).await?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| problem(cause(&e)))? {
        body.extend_from_slice(&chunk);
        if body.len() > DESCRIPTION_BYTES {
            return Err(problem(format!("what it says of {package} has no end")));
        }
    }
    let all: Value = serde_json::from_slice(&body)
        .map_err(|e| problem(format!("what it says of {package} is not JSON: {e}")))?;
    let Some(found) = all["versions"].get(version) else {
        let newest = all["dist-tags"]["latest"].as_str().unwrap_or("unknown");
        return Err(InstallError::Version {
            package: package.to_owned(),
            version: version.to_owned(),
            newest: newest.to_owned(),
        });
    };
    let dist = Dist::deserialize(&found["dist"])
        .map_err(|e| problem(format!("{package} {version} has no `dist`: {e}")))?;
    // A list of digests may be there; ours must be among them, or nothing can be checked.
    let listed = dist.integrity.unwrap_or_default();
    let integrity = listed.split(' ').find(|one| one.starts_with("sha512-"));
    let integrity = integrity
        .ok_or_else(|| problem(format!("{package} {version} names no sha512 integrity")))?;
    Ok(Offer {
        tarball: dist.tarball,
        integrity: integrity.to_owned(),
    })
}

/// Writes the package to `to`, and fails unless it is what was offered.
pub(crate) async fn fetch(
    client: &reqwest::Client,
    registry: &Registry,
    offer: &Offer,
    to: &Path,
) -> Result<(), InstallError> {
    let io = |source| InstallError::Io {
        path: to.to_owned(),
        source,
    };
    let mut response = get(client, registry, &offer.tarball).await?;
    let mut file = tokio::fs::File::create(to).await.map_err(io)?;
    let (mut digest, mut bytes) = (Context::new(&SHA512), 0_u64);
    loop {
        let chunk = response.chunk().await;
        let Some(chunk) = chunk.map_err(|e| wrong(registry, cause(&e)))? else {
            break;
        };
        bytes += chunk.len() as u64;
        if bytes > PACKAGE_BYTES {
            return Err(wrong(registry, "the package has no end".to_owned()));
        }
        digest.update(&chunk);
        file.write_all(&chunk).await.map_err(io)?;
    }
    file.sync_all().await.map_err(io)?;
    let digest = format!("sha512-{}", STANDARD.encode(digest.finish()));
    if digest == offer.integrity {
        return Ok(());
    }
    Err(InstallError::Integrity {
        expected: offer.integrity.clone(),
    })
}

async fn get(
    client: &reqwest::Client,
    registry: &Registry,
    url: &str,
) -> Result<Response, InstallError> {
    let mut url = Url::parse(url).map_err(|e| wrong(registry, format!("{url:?}: {e}")))?;
    for _ in 0..HOPS {
        let sent = registry.request(client, &url).send().await;
        let response = sent.map_err(|e| wrong(registry, cause(&e)))?;
        if response.status().is_redirection() {
            let to = response.headers().get(LOCATION);
            let to = to.and_then(|to| url.join(to.to_str().ok()?).ok());
            url = to.ok_or_else(|| wrong(registry, "it sends to nowhere".to_owned()))?;
            continue;
        }
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let mend = "set `harness.registry_token` (LONGHAND_HARNESS_REGISTRY_TOKEN)";
            return Err(wrong(registry, format!("{url} answers {status}: {mend}")));
        }
        return Err(wrong(registry, format!("{url} answers {status}")));
    }
    Err(wrong(registry, format!("{url} sends in circles")))
}

fn wrong(registry: &Registry, problem: String) -> InstallError {
    InstallError::Registry {
        registry: registry.url.clone(),
        problem,
    }
}

fn cause(error: &reqwest::Error) -> String {
    crate::causes::chain(error)
}
