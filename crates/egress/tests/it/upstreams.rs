//! Servers of the tests that speak HTTP in earnest, in clear text and over TLS, with certificates of a root that
//! the egress process trusts, or with ones that nobody should accept.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::task::TaskTracker;

use crate::telltale;

/// A body of an answer.
pub type Body = BoxBody<Bytes, Infallible>;

/// What the egress process of the tests trusts.
pub static ROOT: LazyLock<CertifiedIssuer<'static, KeyPair>> = LazyLock::new(|| root("tests"));

/// A root that nobody trusts.
static OTHER_ROOT: LazyLock<CertifiedIssuer<'static, KeyPair>> = LazyLock::new(|| root("nobody"));

/// What servers have at a path; under `git`, where repositories are.
pub static FILES: Mutex<BTreeMap<String, Vec<u8>>> = Mutex::new(BTreeMap::new());

/// The number of the certificate that was revoked.
const REVOKED: &[u8] = &[0x12, 0x34];

fn root(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// The list of what was revoked, as PEM.
pub fn revoked() -> String {
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(4096, 1, 1),
        crl_number: SerialNumber::from_slice(&[1]),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from_slice(REVOKED),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(&ROOT).unwrap().pem().unwrap()
}

/// What a server shows.
#[derive(Clone, Copy)]
pub enum Shown {
    Good,
    Expired,
    SelfSigned,
    OtherName,
    Revoked,
}

/// What a server speaks inside TLS.
pub const BOTH: &[&[u8]] = &[b"h2", b"http/1.1"];
pub const ONE: &[&[u8]] = &[b"http/1.1"];
pub const TWO: &[&[u8]] = &[b"h2"];

/// A server of clear HTTP.
pub fn http() -> impl Fn(TcpStream, &Arc<Mutex<Vec<u8>>>) + Send + Sync {
    |stream, seen| {
        run(async {
            stream.set_nonblocking(true).unwrap();
            serve(
                tokio::net::TcpStream::from_std(stream).unwrap(),
                seen,
                false,
            )
            .await;
        });
    }
}

/// A server of HTTP over TLS for `allowed.test`.
pub fn https(
    protocols: &'static [&'static [u8]],
    shown: Shown,
) -> impl Fn(TcpStream, &Arc<Mutex<Vec<u8>>>) + Send + Sync {
    let config = config(protocols, shown);
    move |stream, seen| {
        let config = config.clone();
        run(async {
            stream.set_nonblocking(true).unwrap();
            let stream = tokio::net::TcpStream::from_std(stream).unwrap();
            // A client that does not like the certificate goes.
            let Ok(tls) = tokio_rustls::TlsAcceptor::from(config).accept(stream).await else {
                return;
            };
            let is_two = tls.get_ref().1.alpn_protocol() == Some(b"h2");
            serve(tls, seen, is_two).await;
        });
    }
}

fn config(protocols: &[&[u8]], shown: Shown) -> Arc<ServerConfig> {
    let names = match shown {
        Shown::OtherName => vec!["neighbour.test".to_owned()],
        _ => vec![
            "allowed.test".to_owned(),
            "other.test".to_owned(),
            crate::ground::SERVER.to_owned(),
        ],
    };
    let mut params = CertificateParams::new(names).unwrap();
    let key = KeyPair::generate().unwrap();
    match shown {
        Shown::Expired => {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        Shown::Revoked => params.serial_number = Some(SerialNumber::from_slice(REVOKED)),
        _ => {}
    }
    let certificate = match shown {
        Shown::SelfSigned => params.signed_by(&key, &OTHER_ROOT).unwrap(),
        _ => params.signed_by(&key, &ROOT).unwrap(),
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|one| one.to_vec()).collect();
    Arc::new(config)
}

/// A server that speaks TLS with a certificate of nobody's and says `hello` once.
pub fn tls_hello(mut stream: TcpStream, seen: &Arc<Mutex<Vec<u8>>>) {
    let made = rcgen::generate_simple_self_signed(vec!["allowed.test".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut tls = rustls::ServerConnection::new(Arc::new(config)).unwrap();
    let mut tls = rustls::Stream::new(&mut tls, &mut stream);
    let mut buffer = [0; 1024];
    // A client that does not like the certificate goes.
    let Ok(length) = tls.read(&mut buffer) else {
        return;
    };
    seen.lock().unwrap().extend_from_slice(&buffer[..length]);
    let _ = tls.write_all(b"hello");
    tls.conn.send_close_notify();
    let _ = tls.flush();
}

/// Each connection has a thread and a runtime of its own.
fn run(serving: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.unwrap();
    runtime.block_on(serving);
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    seen: &Arc<Mutex<Vec<u8>>>,
    is_two: bool,
) {
    let (seen, stream) = (Arc::clone(seen), TokioIo::new(stream));
    let upgraded = TaskTracker::new();
    let of_upgrades = upgraded.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let line = format!(
            "{} {} {:?}\n",
            request.method(),
            request.uri(),
            request.version()
        );
        seen.lock().unwrap().extend_from_slice(line.as_bytes());
        let upgrades = of_upgrades.clone();
        async move { Ok::<_, Infallible>(answer(request, &upgrades).await) }
    });
    // However a client ends.
    let _ended = if is_two {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.serve_connection(stream, service).await
    } else {
        let builder = hyper::server::conn::http1::Builder::new();
        builder
            .serve_connection(stream, service)
            .with_upgrades()
            .await
    };
    upgraded.close();
    upgraded.wait().await;
}

async fn answer(request: Request<Incoming>, upgrades: &TaskTracker) -> Response<Body> {
    let is_head = request.method() == http::Method::HEAD;
    let response = answered(request, upgrades).await;
    if is_head {
        return response.map(|_| empty());
    }
    response
}

/// What they have at each path.
pub async fn answered(mut request: Request<Incoming>, upgrades: &TaskTracker) -> Response<Body> {
    match request.uri().path() {
        "/echo" => Response::new(echoed(request.into_body())),
        "/count" => {
            let mut length = 0;
            let body = request.body_mut();
            while let Some(Ok(frame)) = body.frame().await {
                length += frame.data_ref().map_or(0, Bytes::len);
            }
            text(length.to_string())
        }
        "/mirror" => telltale::mirror(request).await,
        "/tail" => telltale::tail(&request),
        "/reflect" => {
            let told = request.headers().get("x-told").cloned().unwrap();
            let to = format!("https://other.test/?{}", told.to_str().unwrap());
            let mut response = Response::builder()
                .status(302)
                .header("x-told", told)
                .header("location", to);
            if let Some(cookie) = request.headers().get("cookie") {
                response = response.header("set-cookie", cookie);
            }
            response.body(echoed(request.into_body())).unwrap()
        }
        "/told" => {
            let mut lines = format!(
                "{} {} {:?}\n",
                request.method(),
                request.uri(),
                request.version()
            );
            for (name, value) in request.headers() {
                lines.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
            }
            text(lines)
        }
        "/big" => {
            let pieces = (0..1024).map(|_| Ok(Frame::data(Bytes::from(vec![b'x'; 65_536]))));
            Response::new(BodyExt::boxed(StreamBody::new(futures_util::stream::iter(
                pieces,
            ))))
        }
        "/trailers" => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let frames = [Frame::data(Bytes::from("body")), Frame::trailers(trailers)];
            let frames = futures_util::stream::iter(frames.map(Ok));
            let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
            let headers = response.headers_mut();
            headers.insert("trailer", "grpc-status".parse().unwrap());
            response
        }
        "/none" => Response::builder().status(204).body(empty()).unwrap(),
        "/same" => Response::builder()
            .status(304)
            .header("etag", "\"x\"")
            .body(empty())
            .unwrap(),
        "/close" => {
            let mut response = text("closing".to_owned());
            let close = "close".parse().unwrap();
            response.headers_mut().insert("connection", close);
            response
        }
        "/spoof" => {
            let mut response = text("spoofed".to_owned());
            let denied = "denied".parse().unwrap();
            response.headers_mut().insert("x-longhand-egress", denied);
            response
        }
        "/upgrade" => {
            let upgrading = hyper::upgrade::on(&mut request);
            upgrades.spawn(async move {
                let mut stream = TokioIo::new(upgrading.await.unwrap());
                let mut buffer = [0; 1024];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    stream.write_all(&buffer[..length]).await.unwrap();
                }
            });
            let wanted = request.headers().get("upgrade").cloned();
            Response::builder()
                .status(101)
                .header("connection", "upgrade")
                .header("upgrade", wanted.unwrap())
                .body(empty())
                .unwrap()
        }
        "/ws" => telltale::websocket(&mut request, upgrades),
        path if path.starts_with("/kept/") => telltale::kept(request).await,
        path if path.starts_with("/private/") => telltale::private(request, upgrades).await,
        path if path.starts_with("/owned/") || path.starts_with("/repos/") => {
            telltale::owned(request, upgrades).await
        }
        path if path.starts_with("/open/") => telltale::open(request, upgrades).await,
        path if path.starts_with("/git/") => git(request).await,
        _ if is_grpc(&request) => grpc(request).await,
        path => match FILES.lock().unwrap().get(path) {
            Some(file) => {
                let kind = if path.ends_with('/') {
                    "text/html"
                } else {
                    "application/octet-stream"
                };
                let file = Full::new(Bytes::from(file.clone())).boxed();
                Response::builder()
                    .header("content-type", kind)
                    .body(file)
                    .unwrap()
            }
            None => text(format!("hello {path}\n")),
        },
    }
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    let kind = request.headers().get("content-type");
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// A call of gRPC: what came is the answer, but to etcd's, which has an empty one.
async fn grpc(request: Request<Incoming>) -> Response<Body> {
    let is_etcd = request.uri().path().starts_with("/etcdserverpb.");
    let said = request.into_body().collect().await.unwrap().to_bytes();
    let said = if is_etcd {
        Bytes::from_static(&[0; 5])
    } else {
        said
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let frames = [Frame::data(said), Frame::trailers(trailers)];
    let frames = futures_util::stream::iter(frames.map(Ok));
    let response = Response::builder().header("content-type", "application/grpc");
    response
        .body(BodyExt::boxed(StreamBody::new(frames)))
        .unwrap()
}

/// A repository as git itself serves it, for everybody to read and write.
async fn git(request: Request<Incoming>) -> Response<Body> {
    let header = |name: &str| {
        let value = request.headers().get(name);
        value.map_or("", |value| value.to_str().unwrap()).to_owned()
    };
    let mut command = tokio::process::Command::new("git");
    command
        .arg("http-backend")
        .env(
            "GIT_PROJECT_ROOT",
            FILES
                .lock()
                .unwrap()
                .get("git")
                .map(|it| String::from_utf8_lossy(it).into_owned())
                .unwrap(),
        )
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "agent")
        .env("REQUEST_METHOD", request.method().as_str())
        .env("PATH_INFO", request.uri().path().trim_start_matches("/git"))
        .env("QUERY_STRING", request.uri().query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut input = child.stdin.take().unwrap();
    let writing = async move { input.write_all(&body).await.unwrap() };
    let (output, ()) = tokio::join!(child.wait_with_output(), writing);
    let output = output.unwrap().stdout;
    let end = output
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        response = if name == "Status" {
            response.status(value[..3].parse::<u16>().unwrap())
        } else {
            response.header(name, value)
        };
    }
    let body = Full::new(Bytes::from(output[end + 4..].to_vec())).boxed();
    response.body(body).unwrap()
}

/// The body as it comes, piece by piece, and what stands behind it.
fn echoed(body: Incoming) -> Body {
    let frames = futures_util::stream::unfold(body, |mut body| async move {
        let frame = body.frame().await?.ok()?;
        Some((Ok::<_, Infallible>(frame), body))
    });
    BodyExt::boxed(StreamBody::new(SyncStream(Box::pin(frames))))
}

/// A stream that only one task polls.
struct SyncStream<T>(std::pin::Pin<Box<dyn futures_util::Stream<Item = T> + Send + Sync>>);

impl<T> futures_util::Stream for SyncStream<T> {
    type Item = T;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        self.0.as_mut().poll_next(cx)
    }
}

pub fn text(text: String) -> Response<Body> {
    Response::new(Full::new(Bytes::from(text)).boxed())
}

pub fn empty() -> Body {
    Full::new(Bytes::new()).boxed()
}
