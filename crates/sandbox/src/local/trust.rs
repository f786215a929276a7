//! Owns what makes the programs of a sandbox trust the certificates that its network shows them. It knows no key,
//! and trusts nothing for the host.
//!
//! Templates have what is the same for all sandboxes, and the hand puts a sandbox's own beside it: of what programs
//! trust besides, some 400 KB, nothing is sent to it.

mod java;

use std::path::Path;

use hand::wire::{Ask, Composed, Open, Part};
use tokio::io::AsyncReadExt as _;

use super::client::Client;
use crate::error::Error;
use crate::template::Rooted;
use crate::template::trusted::{self, BUNDLE, JAVA, JAVA_ROOTS, OWN, ROOTS};

pub(super) use self::java::Store;

/// How programs are told that do not look into the system's place, or only with leave.
pub(super) const ENVIRONMENT: &[(&str, &str)] = &[
    ("SSL_CERT_FILE", BUNDLE),
    ("CURL_CA_BUNDLE", BUNDLE),
    ("REQUESTS_CA_BUNDLE", BUNDLE),
    ("PIP_CERT", BUNDLE),
    ("GIT_SSL_CAINFO", BUNDLE),
    ("CARGO_HTTP_CAINFO", BUNDLE),
    ("AWS_CA_BUNDLE", BUNDLE),
    ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", BUNDLE),
    ("NODE_EXTRA_CA_CERTS", OWN),
];

/// What Java trusts in that template, if it has a store of the kind that is understood. Blocks.
pub(super) fn java(tree: &Path) -> Option<Store> {
    let tree = Rooted::open(tree).ok()?;
    Store::read(&trusted::java_roots(&tree).ok()??)
}

/// Has the programs of a sandbox trust that certificate (PEM); `java` is what they trust besides.
///
/// # Errors
/// Those of writing a file in the sandbox.
pub(super) async fn place(
    client: &Client,
    java: Option<&Store>,
    certificate: &str,
) -> Result<(), Error> {
    let version = client.version();
    let own = || Part::of(certificate.as_bytes(), version);
    let roots = Part::File {
        path: ROOTS.to_owned(),
        from: 0,
        length: u64::MAX,
    };
    let file = |path: &str, parts| Composed {
        path: path.to_owned(),
        mode: 0o644,
        parts,
    };
    let mut files = vec![file(OWN, vec![own()]), file(BUNDLE, vec![roots, own()])];
    if let Some(parts) = java.and_then(|store| store.with(JAVA_ROOTS, certificate, version)) {
        files.push(file(JAVA, parts));
    }
    client.ask(&Ask::Compose { files }).await.map(drop)
}

/// The same for a sandbox that runs already: nothing is written if it has it. It goes on without, if it must.
pub(super) async fn renew(client: &Client, java: Option<&Store>, certificate: &str) {
    if holds(client, certificate).await {
        return;
    }
    if let Err(error) = place(client, java, certificate).await {
        tracing::warn!(%error, "programs of a sandbox may not trust what its network shows them");
    }
}

/// Whether that certificate is there already.
async fn holds(client: &Client, certificate: &str) -> bool {
    let open = Open::Read {
        path: OWN.to_owned(),
        from: 0,
    };
    let Ok((mut process, _)) = client.open(&open).await else {
        return false;
    };
    let Some(held) = &mut process.stdout else {
        return false;
    };
    let mut text = Vec::new();
    let limit = certificate.len() as u64 + 1;
    let read = held.take(limit).read_to_end(&mut text).await;
    read.is_ok() && text == certificate.as_bytes()
}
