//! Owns what a template has so that programs of its sandboxes can be made to trust a network's certificates. It knows no
//! certificate of a network.

use std::io;

use super::rooted::Rooted;
use crate::limits::TEMPLATE_FILE_BYTES;

/// The certificates that programs trust: those of the template, and the network's.
pub(crate) const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The network's alone, for programs that add to their own.
pub(crate) const OWN: &str = "/etc/ssl/certs/longhand.pem";
/// The same where OpenSSL looks for it in a directory (`SSL_CERT_DIR`): eight digits of a hash of the authority's
/// name, which is the same for every sandbox.
const HASHED: &str = "/etc/ssl/certs/03d3b9c7.0";
/// Run by `update-ca-certificates`, which writes the bundle anew.
const HOOK: &str = "/etc/ca-certificates/update.d/longhand";
const HOOK_TEXT: &str = "#!/bin/sh\n[ ! -e /etc/ssl/certs/longhand.pem ] ||\n    \
    exec cat /etc/ssl/certs/longhand.pem >>/etc/ssl/certs/ca-certificates.crt\n";
/// What Java trusts, where the template has it.
pub(crate) const JAVA: &str = "/etc/ssl/certs/java/cacerts";
/// Where templates have their bundles: those of Debian, of Red Hat, and of Alpine without `ca-certificates`.
const OF_TEMPLATES: [&str; 3] = [
    BUNDLE,
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];
/// Where a template keeps its bundle and what Java trusts, as they are without a network.
pub(crate) const ROOTS: &str = "/etc/longhand/roots.pem";
pub(crate) const JAVA_ROOTS: &str = "/etc/longhand/roots.jks";

/// Puts into a template what is the same for all of its sandboxes. Blocks.
pub(crate) fn prepare(tree: &Rooted) -> io::Result<()> {
    let mut bundle = Vec::new();
    for place in OF_TEMPLATES {
        if let Some(found) = tree.read(place, TEMPLATE_FILE_BYTES)? {
            bundle = found;
            break;
        }
    }
    if bundle.last().is_some_and(|last| *last != b'\n') {
        bundle.push(b'\n');
    }
    tree.write(ROOTS, &bundle, 0o644)?;
    if let Some(store) = tree.read(JAVA, TEMPLATE_FILE_BYTES)? {
        tree.write(JAVA_ROOTS, &store, 0o644)?;
    }
    tree.write(HOOK, HOOK_TEXT.as_bytes(), 0o755)?;
    // Where there is no network it leads nowhere, which is as if it were not there.
    tree.link(HASHED, "longhand.pem")
}

/// What Java trusts in that template, if it has such a store. Blocks.
pub(crate) fn java_roots(tree: &Rooted) -> io::Result<Option<Vec<u8>>> {
    tree.read(JAVA_ROOTS, TEMPLATE_FILE_BYTES)
}
