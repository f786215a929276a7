//! Installing from a registry that is not to be trusted: what is kept is what its digest names, whole.

use std::io::Write as _;
use std::path::Path;

use aws_lc_rs::digest::{SHA512, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::secret::Secret;
use flate2::Compression;
use flate2::write::GzEncoder;
use harness::install::{self, InstallError};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A registry with one package; ends when dropped.
struct Registry {
    url: String,
    /// What is shown to it.
    token: Option<&'static str>,
    _served: JoinSet<()>,
}

fn package() -> Vec<u8> {
    let mut head = [0_u8; 512];
    let (path, content) = ("package/claude", b"#!/bin/sh\n");
    head[..path.len()].copy_from_slice(path.as_bytes());
    head[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    head[156] = b'0';
    let mut tar = head.to_vec();
    tar.extend_from_slice(content);
    tar.resize(512 * 4, 0);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&tar).unwrap();
    gzip.finish().unwrap()
}

fn integrity(bytes: &[u8]) -> String {
    format!("sha512-{}", STANDARD.encode(digest(&SHA512, bytes)))
}

impl Registry {
    /// One that says of version 1.0.0 that it has this integrity, and sends elsewhere for the bytes.
    async fn new(integrity: &str, bytes: Vec<u8>) -> Self {
        Self::wanting(None, "", integrity, bytes).await
    }

    /// One that wants to be shown that token, and no other; its bytes are at `other`.
    async fn wanting(
        wants: Option<&'static str>,
        other: &str,
        integrity: &str,
        bytes: Vec<u8>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let elsewhere = format!("{other}/elsewhere.tgz");
        let dist = json!({"tarball": format!("{url}/claude.tgz"), "integrity": integrity});
        let about =
            json!({"dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {"dist": dist}}});
        let mut served = JoinSet::new();
        served.spawn(serve(listener, about, bytes, (wants, elsewhere)));
        Self {
            url,
            token: None,
            _served: served,
        }
    }

    async fn install(
        &self,
        version: &str,
        programs: &Path,
    ) -> Result<install::Installed, InstallError> {
        let client = dial::client(&dial::Mode::Exempt, &dial::Options::default()).unwrap();
        let registry = install::Registry {
            url: self.url.clone(),
            token: self.token.map(|token| Secret::new(token.to_owned())),
        };
        install::claude(&client, &registry, version, programs).await
    }
}

async fn serve(
    listener: TcpListener,
    about: Value,
    bytes: Vec<u8>,
    (wants, elsewhere): (Option<&str>, String),
) {
    let found = format!("302 Found\r\nlocation: {elsewhere}");
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else {
                break;
            };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap_or_default();
        let shown = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("authorization").then_some(value)
        });
        let (status, body) = match path {
            _ if shown != wants => ("401 Unauthorized", Vec::new()),
            "/claude.tgz" => (found.as_str(), Vec::new()),
            "/elsewhere.tgz" => ("200 OK", bytes.clone()),
            path if path.starts_with("/@anthropic-ai%2fclaude-code-linux-") => {
                ("200 OK", about.to_string().into_bytes())
            }
            _ => ("404 Not Found", Vec::new()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(&body).await;
    }
}

#[tokio::test]
async fn what_is_installed_is_what_the_digest_names_and_is_used_from_then_on() {
    let bytes = package();
    let registry = Registry::new(&integrity(&bytes), bytes).await;
    let programs = tempfile::tempdir().unwrap();
    assert_eq!(install::current_claude(programs.path()), None);
    let installed = registry.install("1.0.0", programs.path()).await.unwrap();
    assert_eq!((installed.version.as_str(), installed.bytes), ("1.0.0", 10));
    assert_eq!(
        install::current_claude(programs.path()).as_deref(),
        Some("1.0.0")
    );
    assert_eq!(install::list(programs.path()), [(installed, true)]);
    // Half of it is none, and is mended.
    std::fs::write(programs.path().join("claude/1.0.0/claude"), "x").unwrap();
    assert_eq!(install::current_claude(programs.path()), None);
    registry.install("1.0.0", programs.path()).await.unwrap();
    assert_eq!(
        install::current_claude(programs.path()).as_deref(),
        Some("1.0.0")
    );
}

#[tokio::test]
async fn what_does_not_match_its_digest_or_is_not_there_is_not_installed() {
    let bytes = package();
    let programs = tempfile::tempdir().unwrap();
    let other = Registry::new(&integrity(b"other"), bytes.clone()).await;
    let refused = other.install("1.0.0", programs.path()).await.unwrap_err();
    assert!(
        matches!(refused, InstallError::Integrity { .. }),
        "{refused}"
    );
    let none = Registry::new("sha1-AAAA", bytes.clone()).await;
    let refused = none.install("1.0.0", programs.path()).await.unwrap_err();
    assert!(refused.to_string().contains("sha512"), "{refused}");
    let missing = Registry::new(&integrity(&bytes), bytes).await;
    let refused = missing.install("9.9.9", programs.path()).await.unwrap_err();
    assert!(
        refused.to_string().contains("the newest is 1.0.0"),
        "{refused}"
    );
    assert_eq!(install::current_claude(programs.path()), None);
    assert_eq!(install::list(programs.path()), []);
    let left = std::fs::read_dir(programs.path().join("claude")).unwrap();
    assert_eq!(left.count(), 0, "nothing is left of them");
}

#[tokio::test]
async fn a_token_is_shown_to_the_registry_and_to_nobody_it_sends_to() {
    let bytes = package();
    let programs = tempfile::tempdir().unwrap();
    // It refuses whoever shows it anything.
    let files = Registry::new(&integrity(&bytes), bytes.clone()).await;
    let wants = Some("Bearer npm_0123456789");
    let mut registry = Registry::wanting(wants, &files.url, &integrity(&bytes), Vec::new()).await;
    let refused = registry.install("1.0.0", programs.path()).await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("401") && refused.contains("harness.registry_token"),
        "{refused}"
    );
    registry.token = Some("npm_0123456789");
    registry.install("1.0.0", programs.path()).await.unwrap();
    assert!(install::current_claude(programs.path()).is_some());
}
