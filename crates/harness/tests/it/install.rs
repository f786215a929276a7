//! Installing from a registry that is not to be trusted: what is kept is what its digest names, whole.

use std::io::Write as _;
use std::path::Path;

use aws_lc_rs::digest::{SHA512, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let dist = json!({"tarball": format!("{url}/claude.tgz"), "integrity": integrity});
        let about =
            json!({"dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {"dist": dist}}});
        let mut served = JoinSet::new();
        served.spawn(serve(listener, about, bytes));
        Self {
            url,
            _served: served,
        }
    }

    async fn install(
        &self,
        version: &str,
        programs: &Path,
    ) -> Result<install::Installed, InstallError> {
        let client = dial::client(&dial::Mode::Exempt, &dial::Options::default()).unwrap();
        install::claude(&client, &self.url, version, programs).await
    }
}

async fn serve(listener: TcpListener, about: Value, bytes: Vec<u8>) {
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
        let (status, body) = match path {
            "/claude.tgz" => ("302 Found\r\nlocation: /elsewhere.tgz", Vec::new()),
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
