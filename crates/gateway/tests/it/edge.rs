//! What stands between a network and the routes: TLS, origins, what one key may take, a full disk.

use std::path::Path;
use std::sync::Arc;

use axum::http::Method;
use gateway::{Config, Floor, Front, Limits, Rate, Tls, serve_edge};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::support::{Server, agent};

fn limited(limits: Limits) -> Config {
    Config {
        limits,
        ..Config::default()
    }
}

/// Writes a fresh identity for `localhost` and returns its certificate.
fn identity(dir: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("cert.pem"), cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), signing_key.serialize_pem()).unwrap();
    cert.der().clone()
}

/// One request over TLS by a client that trusts `root` and nothing else.
async fn over_tls(
    address: std::net::SocketAddr,
    root: &CertificateDer<'static>,
) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn tls_is_served_from_files_and_a_new_pair_is_taken_without_a_restart() {
    let server = Server::start().await;
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let first = identity(dir.path());
    let tls = Arc::new(Tls::load(&certificate, &key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let front = Front {
        tls: Some(Arc::clone(&tls)),
        metrics: None,
    };
    let mut tasks = JoinSet::new();
    let (router, shutdown) = (server.router.clone(), server.shutdown.clone());
    tasks.spawn(serve_edge(
        listener,
        router,
        shutdown,
        Limits::default(),
        front,
    ));
    assert!(over_tls(address, &first).await.unwrap().ends_with("ok\n"));

    // A pair that does not fit is refused, and the one before serves on.
    let second = identity(dir.path());
    let fitting = std::fs::read(&key).unwrap();
    let other = tempfile::tempdir().unwrap();
    identity(other.path());
    std::fs::copy(other.path().join("key.pem"), &key).unwrap();
    let error = tls.reload().unwrap_err().to_string();
    assert!(error.contains("cannot be used together"), "{error}");
    assert!(over_tls(address, &first).await.unwrap().ends_with("ok\n"));

    std::fs::write(&key, fitting).unwrap();
    tls.reload().unwrap();
    assert!(over_tls(address, &second).await.unwrap().ends_with("ok\n"));
    assert!(
        over_tls(address, &first).await.is_err(),
        "the old one is gone"
    );
}

#[test]
fn files_that_hold_no_identity_are_named() {
    let dir = tempfile::tempdir().unwrap();
    identity(dir.path());
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let (missing, empty) = (dir.path().join("missing.pem"), dir.path().join("empty.pem"));
    std::fs::write(&empty, "").unwrap();
    for (certificate, key, named) in [
        (&missing, &key, "missing.pem"),
        (&empty, &key, "empty.pem"),
        (&certificate, &missing, "missing.pem"),
        (&certificate, &empty, "empty.pem"),
    ] {
        let error = Tls::load(certificate, key).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}

#[tokio::test]
async fn no_origin_may_ask_unless_the_operator_named_it() {
    let page = "https://tools.example";
    let closed = Server::start().await;
    let asked = closed.ask(Method::GET, "/v1/agents").header("origin", page);
    let answer = asked.send().await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let open = Server::with(Config {
        cors_origins: vec![page.to_owned()],
        ..Config::default()
    })
    .await;
    let ask = |origin: &str| open.ask(Method::GET, "/v1/agents").header("origin", origin);
    let answer = ask(page).send().await;
    assert_eq!(answer.header("access-control-allow-origin"), Some(page));
    assert_eq!(answer.header("vary"), Some("origin"));
    let other = ask("https://evil.example").send().await;
    assert_eq!(other.header("access-control-allow-origin"), None);
    let preflight = |server: &Server| {
        server
            .bare(Method::OPTIONS, "/v1/agents")
            .header("origin", page)
            .header("access-control-request-method", "POST")
            .header(
                "access-control-request-headers",
                "x-api-key, anthropic-beta",
            )
    };
    let answer = preflight(&open).send().await;
    assert_eq!(answer.status, 204);
    assert_eq!(
        answer.header("access-control-allow-headers"),
        Some("x-api-key, anthropic-beta")
    );
    assert_eq!(preflight(&closed).send().await.status, 405);
}

#[tokio::test]
async fn a_key_that_asks_too_fast_is_told_when_to_come_again() {
    let rate = Rate {
        per_second: 1,
        burst: 2,
    };
    let server = Server::with(limited(Limits {
        rate: Some(rate),
        ..Limits::default()
    }))
    .await;
    let mut refused = None;
    // Two at once are allowed; that ten take ten seconds would be another defect.
    for _ in 0..10 {
        let answer = server.get("/v1/agents").await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("a refusal");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.body["error"]["type"], "rate_limit_error");
    let other = server.new_key(json!({"name": "other"})).await;
    let answer = server
        .ask(Method::GET, "/v1/agents")
        .key(&other)
        .send()
        .await;
    assert_eq!(answer.status, 200, "another key has its own rate");
}

#[tokio::test]
async fn a_key_has_only_so_many_streams() {
    let server = Server::with(limited(Limits {
        streams_per_key: 1,
        ..Limits::default()
    }))
    .await;
    let session = server.session().await;
    let path = format!("/v1/sessions/{session}/events/stream");
    let first = server.ask(Method::GET, &path).open().await;
    assert_eq!(first.status(), 200);
    let second = server.get(&path).await;
    assert_eq!(second.status, 429, "{}", second.body);
    assert!(second.header("retry-after").is_some());
    drop(first);
    let third = server.ask(Method::GET, &path).open().await;
    assert_eq!(third.status(), 200, "a stream that ended makes room");
    let missing = server.get("/v1/sessions/sesn_x/events/stream").await;
    assert_eq!(missing.status, 404);
}

#[tokio::test]
async fn bodies_beyond_what_all_may_hold_are_refused_and_hold_nothing() {
    let server = Server::with(limited(Limits {
        bodies: 10_000,
        ..Limits::default()
    }))
    .await;
    let mut large = agent();
    large["system"] = json!("x".repeat(20_000));
    for _ in 0..3 {
        let refused = server.post("/v1/agents", large.clone()).await;
        assert_eq!(refused.status, 503, "{}", refused.body);
        assert_eq!(refused.code(), Some("request_bodies_full"));
        assert_eq!(refused.header("retry-after"), Some("1"));
    }
    for _ in 0..50 {
        server.create("/v1/agents", agent()).await;
    }
}

#[tokio::test]
async fn while_the_disk_is_almost_full_nothing_is_written_and_all_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let floor = |free| Config {
        disk: Some(Floor {
            path: dir.path().to_owned(),
            free,
        }),
        ..Config::default()
    };
    let roomy = Server::with(floor(1)).await;
    roomy.create("/v1/agents", agent()).await;
    let full = Server::with(floor(u64::MAX)).await;
    let refused = full.post("/v1/agents", agent()).await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_eq!(refused.header("retry-after"), Some("30"));
    assert!(refused.message().contains("disk is almost full"));
    assert_eq!(full.get("/v1/agents").await.status, 200);
    assert_eq!(full.delete("/v1/sessions/sesn_x").await.status, 404);
}

#[tokio::test]
async fn metrics_count_requests_and_limits_and_name_nothing_of_a_client() {
    let server = Server::with(limited(Limits {
        streams_per_key: 0,
        ..Limits::default()
    }))
    .await;
    let session = server.session().await;
    server
        .get(&format!("/v1/sessions/{session}/events/stream"))
        .await;
    server.get("/v1/nothing-of-this-name").await;
    let text = server.bare(Method::GET, "/metrics").send().await;
    assert_eq!(text.status, 200);
    let text = text.body.as_str().unwrap().to_owned();
    for line in [
        "longhand_gateway_requests_total{method=\"POST\",route=\"/v1/sessions\",status=\"200\"} 1",
        "longhand_gateway_limit_hits_total{limit=\"Streams\"} 1",
        "longhand_gateway_requests_total{method=\"none\",route=\"none\",status=\"404\"} 1",
        "# TYPE longhand_store_commits counter",
        "longhand_store_write_queue_limit 1024",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    for never in [
        session.as_str(),
        server.key.as_str(),
        "nothing-of-this-name",
    ] {
        assert!(!text.contains(never), "{never}\n{text}");
    }
}
