//! A model endpoint whose certificate only the operator's own CA has signed.

use std::sync::Arc;

use model::{Client, Dialect, Error};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::fixture::{ask_with, client_with, endpoint, request, said, text};

const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"ok\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

/// A server for `localhost` and its CA, as PEM.
async fn server() -> (String, String, JoinSet<()>) {
    dial::install_crypto_provider();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned()];
    let leaf = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &ca)
        .unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // A client that does not trust us goes away here.
            let Ok(mut socket) = acceptor.accept(socket).await else {
                continue;
            };
            let mut seen = [0; 16 * 1024];
            if socket.read(&mut seen).await.is_ok() {
                let _sent = socket.write_all(ANSWER.as_bytes()).await;
                let _ended = socket.shutdown().await;
            }
        }
    });
    (url, ca.pem(), tasks)
}

async fn ask(client: &Client, url: &str) -> Result<model::Reply, model::Failure> {
    let ep = endpoint(Dialect::OpenAiChat, url);
    ask_with(client, &ep, &request(vec![text("hi")])).await.0
}

#[tokio::test]
async fn an_endpoint_under_a_private_ca_is_trusted_when_the_operator_says_so() {
    let (url, pem, _tasks) = server().await;
    let trusting = client_with(|c| c.extra_roots_pem.push(pem.into_bytes()));
    assert_eq!(said(&ask(&trusting, &url).await.unwrap()), "ok");
    let failure = ask(&client_with(|_| {}), &url).await.unwrap_err();
    assert!(
        matches!(failure.error, Error::Connect { .. }),
        "{failure:?}"
    );
    assert!(failure.to_string().contains("UnknownIssuer"), "{failure}");
}

#[test]
fn roots_that_are_none_are_refused_at_the_start() {
    let config = model::ClientConfig {
        extra_roots_pem: vec![
            b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_vec(),
        ],
        ..Default::default()
    };
    assert!(Client::new(config).is_err());
}
