//! Servers of the tests that say again what they were told, in every place of an answer, or that answer only whoever
//! shows them the secret.

use std::convert::Infallible;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::task::TaskTracker;

use crate::upstreams::{Body, FILES, answered, empty, text};

/// What servers at `/private/` want to be shown.
pub const PASS: &str = "pass/of+the-right-one~42=";

/// What was asked, each line backwards.
pub async fn mirror(request: Request<Incoming>) -> Response<Body> {
    let mut lines = vec![request.uri().to_string()];
    let line = |name: &http::HeaderName, value: &http::HeaderValue| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        format!("{name}: {value}")
    };
    lines.extend(request.headers().iter().map(|(n, v)| line(n, v)));
    let body = request.into_body().collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    lines.push(String::from_utf8_lossy(&body.to_bytes()).into_owned());
    lines.extend(trailers.iter().map(|(n, v)| line(n, v)));
    let backwards = lines.iter().map(|line| line.chars().rev().collect());
    text(backwards.collect::<Vec<String>>().join("\n"))
}

/// What it was told stands behind the body.
pub fn tail(request: &Request<Incoming>) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    let told = request.headers().get("x-told").cloned().unwrap();
    trailers.insert("x-told", told);
    let frames = [Frame::data(Bytes::from("body")), Frame::trailers(trailers)];
    let frames = futures_util::stream::iter(frames.map(Ok::<_, Infallible>));
    let response = Response::builder().header("trailer", "x-told");
    response
        .body(BodyExt::boxed(StreamBody::new(frames)))
        .unwrap()
}

/// What a client of WebSockets sends, in short frames that it has masked (RFC 6455 §5.2), comes back. It begins with
/// what it was told, if it was told something.
pub fn websocket(request: &mut Request<Incoming>, upgrades: &TaskTracker) -> Response<Body> {
    let Some(key) = request.headers().get("sec-websocket-key") else {
        return Response::builder().status(400).body(empty()).unwrap();
    };
    let digest = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
        &[key.as_bytes(), b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat(),
    );
    let told = request.headers().get("x-told").cloned();
    let upgrading = hyper::upgrade::on(request);
    upgrades.spawn(async move {
        let mut stream = TokioIo::new(upgrading.await.unwrap());
        if let Some(told) = told {
            let length = u8::try_from(told.len()).unwrap();
            let frame = [&[0x81, length], told.as_bytes()].concat();
            stream.write_all(&frame).await.unwrap();
        }
        let mut head = [0; 6];
        while stream.read_exact(&mut head).await.is_ok() {
            let mut frame = vec![head[0], head[1] & 0x7f];
            assert!(frame[1] < 126 && head[1] & 0x80 != 0, "{head:?}");
            let mut body = vec![0; frame[1].into()];
            stream.read_exact(&mut body).await.unwrap();
            let mask = head[2..].iter().cycle();
            frame.extend(body.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
            stream.write_all(&frame).await.unwrap();
        }
    });
    Response::builder()
        .status(101)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", STANDARD.encode(digest))
        .body(empty())
        .unwrap()
}

/// What is at the path behind `/private`, for whoever shows [`PASS`]; 401 for others.
pub async fn private(mut request: Request<Incoming>, upgrades: &TaskTracker) -> Response<Body> {
    if !shows_pass(&request) {
        return Response::builder()
            .status(StatusCode::UNAUTHORIZED)
            .header(WWW_AUTHENTICATE, "Basic realm=\"private\"")
            .body(empty())
            .unwrap();
    }
    let rest = request.uri().to_string();
    let rest: Uri = rest.replacen("/private", "", 1).parse().unwrap();
    match rest.path() {
        "/v1/messages" => message(),
        "/mcp" => mcp(request).await,
        _ => {
            *request.uri_mut() = rest;
            Box::pin(answered(request, upgrades)).await
        }
    }
}

/// Repositories at `/owned/NAME`, and REST about them, for whoever shows [`PASS`]. Whatever the name and however the path is
/// written, it is the same repository: a token that goes astray is answered.
pub async fn owned(mut request: Request<Incoming>, upgrades: &TaskTracker) -> Response<Body> {
    if !shows_pass(&request) {
        return Response::builder()
            .status(StatusCode::UNAUTHORIZED)
            .header(WWW_AUTHENTICATE, "Basic realm=\"owned\"")
            .body(empty())
            .unwrap();
    }
    let asked = request.uri().to_string();
    let git = asked
        .split_once("/owned/")
        .filter(|(to, _)| !to.contains("repos"));
    let Some((_, rest)) = git else {
        return mirror(request).await;
    };
    let (name, rest) = rest.split_once('/').unwrap_or((rest, ""));
    if name == "moved.git" {
        let there = format!("https://other.test/open/{rest}");
        let moved = Response::builder().status(301).header(LOCATION, there);
        return moved.body(empty()).unwrap();
    }
    if let Some(asked) = rest.strip_prefix("info/lfs/") {
        let asked = asked.to_owned();
        return lfs(&asked, request).await;
    }
    *request.uri_mut() = format!("/git/one.git/{rest}").parse().unwrap();
    Box::pin(answered(request, upgrades)).await
}

/// A repository that is there for whoever shows nothing; 403 for others.
pub async fn open(mut request: Request<Incoming>, upgrades: &TaskTracker) -> Response<Body> {
    if request.headers().contains_key(AUTHORIZATION) {
        return Response::builder().status(403).body(empty()).unwrap();
    }
    let asked = request.uri().to_string();
    let (_, rest) = asked.split_once("/open/").unwrap();
    *request.uri_mut() = format!("/git/one.git/{rest}").parse().unwrap();
    Box::pin(answered(request, upgrades)).await
}

/// A store of large files, by the API that git's extension for them has (git-lfs's `docs/api`).
async fn lfs(asked: &str, request: Request<Incoming>) -> Response<Body> {
    let method = request.method().clone();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    if let Some(id) = asked.strip_prefix("storage/") {
        let mut files = FILES.lock().unwrap();
        if method == "PUT" {
            files.insert(id.to_owned(), body.to_vec());
            return Response::new(empty());
        }
        let file = Full::new(Bytes::from(files[id].clone()));
        return Response::new(file.boxed());
    }
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let operation = asked["operation"].as_str().unwrap();
    let objects = asked["objects"].as_array().unwrap().iter().map(|object| {
        let id = object["oid"].as_str().unwrap();
        let href = format!("https://allowed.test/owned/one.git/info/lfs/storage/{id}");
        json!({"oid": id, "size": object["size"], "actions": {operation: {"href": href}}})
    });
    let objects: Vec<_> = objects.collect();
    said(&json!({"transfer": "basic", "objects": objects}))
}

/// Keeps what is put there and gives it back, in pieces to whoever asks for one by whatever name (RFC 9110 §14), and at
/// `/kept/pieces` to everybody.
pub async fn kept(request: Request<Incoming>) -> Response<Body> {
    const ASKED: [&str; 3] = ["range", "request-range", "x-ms-range"];
    let path = request.uri().path().to_owned();
    if request.method() == "PUT" {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        FILES.lock().unwrap().insert("kept".to_owned(), body.into());
        return Response::new(empty());
    }
    let file = FILES.lock().unwrap()["kept"].clone();
    let asked = ASKED
        .iter()
        .find_map(|name| request.headers().get(*name))
        .map(|range| range.to_str().unwrap())
        .or((path == "/kept/pieces").then_some("bytes=0-9"));
    let Some((from, to)) = asked.map(|range| range["bytes=".len()..].split_once('-').unwrap())
    else {
        let whole = Response::builder().header("accept-ranges", "bytes");
        return whole.body(Full::new(Bytes::from(file)).boxed()).unwrap();
    };
    let (from, to) = (from.parse().unwrap(), to.parse().unwrap_or(file.len() - 1));
    let piece = Bytes::copy_from_slice(&file[from..=to]);
    Response::builder()
        .status(206)
        .header("content-range", format!("bytes {from}-{to}/{}", file.len()))
        .body(Full::new(piece).boxed())
        .unwrap()
}

fn shows_pass(request: &Request<Incoming>) -> bool {
    let headers = request.headers();
    let authorization = headers
        .get(AUTHORIZATION)
        .map_or("", |it| it.to_str().unwrap());
    match authorization.split_once(' ') {
        Some(("Bearer" | "token", shown)) => shown == PASS,
        Some(("Basic", pair)) => {
            let pair = String::from_utf8(STANDARD.decode(pair).unwrap()).unwrap();
            pair.split_once(':').is_some_and(|(_, shown)| shown == PASS)
        }
        _ => headers.get("x-api-key").is_some_and(|shown| shown == PASS),
    }
}

/// What a model says.
fn message() -> Response<Body> {
    said(
        &json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m",
        "content": [{"type": "text", "text": "heard"}], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": 1, "output_tokens": 1}}),
    )
}

/// As much of an MCP server as has one tool.
async fn mcp(request: Request<Incoming>) -> Response<Body> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let result = match asked["method"].as_str().unwrap() {
        "initialize" => json!({"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
            "serverInfo": {"name": "private", "version": "1"}}),
        "tools/list" => json!({"tools": [{"name": "say", "inputSchema": {"type": "object"}}]}),
        "tools/call" => {
            json!({"content": [{"type": "text", "text": asked["params"]["arguments"]["what"]}]})
        }
        // A notification.
        _ => return Response::builder().status(202).body(empty()).unwrap(),
    };
    said(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}))
}

fn said(what: &Value) -> Response<Body> {
    let mut response = text(what.to_string());
    let json = "application/json".parse().unwrap();
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
