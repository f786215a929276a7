//! Owns what makes the programs of a sandbox trust the certificates that its network shows them. It knows no key,
//! and trusts nothing for the host.
//!
//! Templates have what is the same for all sandboxes, and the hand puts a sandbox's own beside it: of what programs
//! trust besides, some 400 KB, nothing is sent to it.

mod java;

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use hand::wire::{Ask, Composed, Open, Part};
use tokio::io::AsyncReadExt as _;

use super::client::Client;
use crate::error::Error;

pub(super) use self::java::Store;

/// The certificates that programs trust: those of the template, and the network's.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The network's alone, for programs that add to their own.
const OWN: &str = "/etc/ssl/certs/longhand.pem";
/// The same where OpenSSL looks for it in a directory (`SSL_CERT_DIR`): eight digits of a hash of the authority's
/// name, which is the same for every sandbox.
const HASHED: &str = "etc/ssl/certs/03d3b9c7.0";
/// Run by `update-ca-certificates`, which writes the bundle anew.
const HOOK: &str = "etc/ca-certificates/update.d/longhand";
const HOOK_TEXT: &str = "#!/bin/sh\n[ ! -e /etc/ssl/certs/longhand.pem ] ||\n    \
    exec cat /etc/ssl/certs/longhand.pem >>/etc/ssl/certs/ca-certificates.crt\n";
/// What Java trusts, where the template has it.
const JAVA: &str = "/etc/ssl/certs/java/cacerts";
/// Where templates have their bundles, those of Debian and of Red Hat.
const OF_TEMPLATES: [&str; 2] = [
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/tls/certs/ca-bundle.crt",
];
/// Where a template keeps its bundle and what Java trusts, as they are without a network.
const ROOTS: &str = "/etc/longhand/roots.pem";
const JAVA_ROOTS: &str = "/etc/longhand/roots.jks";

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

/// Puts into a template what is the same for all of its sandboxes. Blocks.
pub(super) fn prepare(tree: &Path) -> io::Result<()> {
    let inside = |path: &str| tree.join(path.trim_start_matches('/'));
    for of_sandbox in [OWN, HOOK, ROOTS] {
        if let Some(directory) = inside(of_sandbox).parent() {
            fs::create_dir_all(directory)?;
        }
    }
    let bundles = OF_TEMPLATES.iter().map(|bundle| fs::read(inside(bundle)));
    let mut bundle = bundles.flatten().next().unwrap_or_default();
    if bundle.last().is_some_and(|last| *last != b'\n') {
        bundle.push(b'\n');
    }
    fs::write(inside(ROOTS), bundle)?;
    if let Ok(store) = fs::read(inside(JAVA)) {
        fs::write(inside(JAVA_ROOTS), store)?;
    }
    fs::write(inside(HOOK), HOOK_TEXT)?;
    fs::set_permissions(inside(HOOK), fs::Permissions::from_mode(0o755))?;
    // Where there is no network it leads nowhere, which is as if it were not there.
    match symlink("longhand.pem", inside(HASHED)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// What Java trusts in that template, if it has a store of the kind that is understood. Blocks.
pub(super) fn java(tree: &Path) -> Option<Store> {
    let store = fs::read(tree.join(JAVA_ROOTS.trim_start_matches('/'))).ok()?;
    Store::read(&store)
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
    let own = || Part::Bytes {
        bytes: certificate.as_bytes().to_vec(),
    };
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
    if let Some(parts) = java.and_then(|store| store.with(JAVA_ROOTS, certificate)) {
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
