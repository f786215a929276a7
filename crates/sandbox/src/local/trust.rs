//! Owns what makes the programs of a sandbox trust the certificates that its network shows them. It knows no key,
//! and trusts nothing for the host.

mod java;

use std::path::Path;

use hand::wire::Open;
use tokio::io::AsyncReadExt as _;

use super::client::Client;
use crate::error::Error;
use crate::files::Upload;

/// The certificates that programs trust: those of the template, and the network's.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The network's alone, for programs that add to their own.
const OWN: &str = "/etc/ssl/certs/longhand.pem";
/// Run by `update-ca-certificates`, which writes the bundle anew.
const HOOK: &str = "/etc/ca-certificates/update.d/longhand";
const HOOK_TEXT: &str =
    "#!/bin/sh\nexec cat /etc/ssl/certs/longhand.pem >>/etc/ssl/certs/ca-certificates.crt\n";
/// What Java trusts, where the template has it.
const JAVA: &str = "/etc/ssl/certs/java/cacerts";
/// Where templates have their bundles, those of Debian and of Red Hat.
const OF_TEMPLATES: [&str; 2] = [
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/tls/certs/ca-bundle.crt",
];

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

/// Has the programs of a sandbox, made from the template at `tree`, trust that certificate (PEM).
///
/// # Errors
/// Those of writing a file in the sandbox.
pub(super) async fn place(client: &Client, tree: &Path, certificate: &str) -> Result<(), Error> {
    let mut bundle = Vec::new();
    for of_template in OF_TEMPLATES {
        if let Ok(found) = tokio::fs::read(tree.join(of_template)).await {
            bundle = found;
            break;
        }
    }
    if bundle.last().is_some_and(|last| *last != b'\n') {
        bundle.push(b'\n');
    }
    bundle.extend_from_slice(certificate.as_bytes());
    write(client, OWN, 0o644, certificate.as_bytes()).await?;
    write(client, HOOK, 0o755, HOOK_TEXT.as_bytes()).await?;
    write(client, BUNDLE, 0o644, &bundle).await?;
    let of_java = tokio::fs::read(tree.join(JAVA.trim_start_matches('/'))).await;
    if let Some(store) = of_java
        .ok()
        .and_then(|store| java::with(&store, certificate))
    {
        write(client, JAVA, 0o644, &store).await?;
    }
    Ok(())
}

async fn write(client: &Client, path: &str, mode: u32, content: &[u8]) -> Result<(), Error> {
    let open = Open::Write {
        path: path.to_owned(),
        mode: Some(mode),
    };
    let (process, _) = client.open(&open).await?;
    let mut upload = Upload::new(process);
    upload.send(content).await?;
    upload.finish().await
}

/// The same for a sandbox that runs already: nothing is written if it has it. It goes on without, if it must.
pub(super) async fn renew(client: &Client, tree: &Path, certificate: &str) {
    if holds(client, certificate).await {
        return;
    }
    if let Err(error) = place(client, tree, certificate).await {
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
