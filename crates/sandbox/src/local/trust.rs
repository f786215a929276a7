//! Owns what makes the programs of a sandbox trust the certificates that its network shows them. It knows no key,
//! and trusts nothing for the host.
//!
//! Templates have what is the same for all sandboxes, and the hand puts a sandbox's own beside it: of what programs
//! trust besides, some 400 KB, nothing is sent to it. [`Trusting`] says when.

mod java;
mod trusting;

use std::path::Path;

use hand::wire::{Ask, Composed, Open, Part};
use tokio::io::AsyncReadExt as _;

use super::client::Client;
use crate::error::Error;
use crate::template::Rooted;
use crate::template::trusted::{self, BUNDLE, JAVA, JAVA_ROOTS, OWN, ROOTS};

pub(super) use self::java::Store;
pub(super) use self::trusting::Files;
pub use self::trusting::Trusting;
use crate::limits::{BUNDLE_BYTES, CERTIFICATE_BYTES};

/// How programs are told that do not look into the system's place, or only with leave.
const ENVIRONMENT: &[(&str, &str)] = &[
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
async fn place(
    client: &Client,
    java: Option<&Store>,
    certificate: &str,
    files: Files,
) -> Result<(), Error> {
    let bundle = match files {
        Files::New => vec![whole(ROOTS)],
        Files::Used | Files::Running => {
            let own = read(client, OWN, CERTIFICATE_BYTES).await;
            // Of a sandbox that runs on: an earlier server has placed it.
            if own.as_deref() == Some(certificate.as_bytes()) {
                return Ok(());
            }
            bundle_without(client, own.as_deref()).await
        }
    };
    let version = client.version();
    let own = || Part::of(certificate.as_bytes(), version);
    let mut files = vec![
        file(OWN, vec![own()]),
        file(BUNDLE, [bundle, vec![own()]].concat()),
    ];
    if let Some(parts) = java.and_then(|store| store.with(JAVA_ROOTS, certificate, version)) {
        files.push(file(JAVA, parts));
    }
    client.ask(&Ask::Compose { files }).await.map(drop)
}

/// Has them trust no certificate of a network, as one that an earlier start has left.
///
/// # Errors
/// Those of writing a file in the sandbox.
async fn withdraw(client: &Client, java: Option<&Store>) -> Result<(), Error> {
    let Some(own) = read(client, OWN, CERTIFICATE_BYTES).await else {
        return Ok(());
    };
    let mut files = vec![file(BUNDLE, bundle_without(client, Some(&own)).await)];
    if java.is_some() {
        files.push(file(JAVA, vec![whole(JAVA_ROOTS)]));
    }
    client.ask(&Ask::Compose { files }).await?;
    let own = Ask::Remove {
        path: OWN.to_owned(),
        all: false,
    };
    client.ask(&own).await.map(drop)
}

/// The bundle that lies there, to which programs may have added, without that certificate; the template's where it
/// cannot be read.
async fn bundle_without(client: &Client, own: Option<&[u8]>) -> Vec<Part> {
    let Some(bundle) = read(client, BUNDLE, BUNDLE_BYTES).await else {
        return vec![whole(ROOTS)];
    };
    let own = own.filter(|own| !own.is_empty());
    let found = own.and_then(|own| Some((memmem(&bundle, own)?, own.len())));
    let Some((at, length)) = found else {
        let mut all = vec![whole(BUNDLE)];
        if bundle.last().is_some_and(|last| *last != b'\n') {
            all.push(Part::of(b"\n", client.version()));
        }
        return all;
    };
    let part = |from: usize, length: u64| Part::File {
        path: BUNDLE.to_owned(),
        from: from as u64,
        length,
    };
    vec![part(0, at as u64), part(at + length, u64::MAX)]
}

fn memmem(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|some| some == wanted)
}

fn whole(path: &str) -> Part {
    Part::File {
        path: path.to_owned(),
        from: 0,
        length: u64::MAX,
    }
}

fn file(path: &str, parts: Vec<Part>) -> Composed {
    Composed {
        path: path.to_owned(),
        mode: 0o644,
        parts,
    }
}

/// What is in that file of the sandbox, unless it is longer or cannot be read.
async fn read(client: &Client, path: &str, most: u64) -> Option<Vec<u8>> {
    let open = Open::Read {
        path: path.to_owned(),
        from: 0,
    };
    let (mut process, _) = client.open(&open).await.ok()?;
    let mut bytes = Vec::new();
    let held = process.stdout.as_mut()?;
    held.take(most + 1).read_to_end(&mut bytes).await.ok()?;
    (bytes.len() as u64 <= most).then_some(bytes)
}
