//! Credentials where something stops in the middle: a server that says a secret in two parts, a client that breaks off
//! when it has spent one, a login that begins again and again.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use egress::audit::Action;
use egress::inject::CredentialsFile;

use crate::ground::{Ground, SERVER, on_ground, python, run, unrestricted};
use crate::injected::{credential, id, placeholder, sandbox};
use crate::upstreams::{BOTH, ONE, Shown, https};

const SECRET: &str = "sk-live/42+secret";

/// Up to where the server says it before it waits for the client: little, and much.
const CUTS: [usize; 2] = [4, 8];

/// Reads until `end` has come.
fn read_to(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let (mut come, mut byte) = (Vec::new(), [0]);
    while !come.ends_with(end) {
        stream.read_exact(&mut byte).unwrap();
        come.push(byte[0]);
    }
    come
}

/// A server that says the secret in two parts, and waits for the client in between: in a WebSocket, or in chunks to a
/// client that is not at the end of its own.
fn in_parts(mut stream: TcpStream, _: &Arc<Mutex<Vec<u8>>>) {
    let head = String::from_utf8(read_to(&mut stream, b"\r\n\r\n")).unwrap();
    let is_websocket = head.to_lowercase().contains("upgrade: websocket");
    let framed = |part: &str| match is_websocket {
        true => part.to_owned(),
        false => format!("{:x}\r\n{part}\r\n", part.len()),
    };
    let begins = match is_websocket {
        true => {
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        }
        false => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    };
    stream.write_all(begins.as_bytes()).unwrap();
    for cut in CUTS {
        let (first, rest) = SECRET.split_at(cut);
        stream.write_all(framed(first).as_bytes()).unwrap();
        read_to(&mut stream, b"!");
        stream
            .write_all(framed(&format!("{rest};")).as_bytes())
            .unwrap();
    }
    // What ends it comes from the client.
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn what_begins_like_a_secret_comes_when_the_server_waits_and_the_rest_of_a_secret_does_not() {
    on_ground(unrestricted(), |ground| async move {
        let _server = ground.server(SERVER, 80, in_parts);
        let all = vec![credential(1, SECRET, Some(&["allowed.test"]))];
        let sandbox = sandbox(&ground, "waits", all).await;
        let program = |head: &str, go: &str| {
            format!(
                "s = socket.create_connection(('allowed.test', 80), timeout=60)\n\
                s.sendall(b'{head}')\n\
                def told(end):\n    \
                    got = b''\n    \
                    while not got.endswith(end): got += s.recv(1)\n    \
                    return got.decode()\n\
                told(b'\\r\\n\\r\\n')\n\
                for cut in (4, 8):\n    \
                    print(repr(told(b'sk-live/'[:cut])))\n    \
                    s.sendall(b'{go}')\n    \
                    print(repr(told(b';')))\n"
            )
        };
        let websocket = "GET /ws HTTP/1.1\\r\\nHost: allowed.test\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\
            Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: eHh4eHh4eHh4eHh4eHh4eA==\\r\\n\\r\\n";
        let there = placeholder(1);
        let masked = |cut: usize| format!("'{}'\n'{};'", &SECRET[..cut], &there[cut..SECRET.len()]);
        let told = python(&sandbox, &program(websocket, "!")).await;
        assert_eq!(told, format!("{}\n{}", masked(CUTS[0]), masked(CUTS[1])));

        let chunked =
            "POST / HTTP/1.1\\r\\nHost: allowed.test\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n";
        let told = python(&sandbox, &program(chunked, "1\\r\\n!\\r\\n")).await;
        assert_eq!(told.matches(&there).count(), 2, "{told}");
        assert!(
            told.contains("sk-l'") && told.contains("sk-live/'"),
            "{told}"
        );
        assert!(!told.contains("ive/4") && !told.contains("42+"), "{told}");
    });
}

#[test]
fn a_request_that_breaks_off_when_it_has_spent_a_credential_is_recorded_with_it() {
    on_ground(unrestricted(), |ground| async move {
        let _both = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let _one = ground.server(SERVER, 8443, https(ONE, Shown::Good));
        let all = vec![credential(1, SECRET, Some(&["allowed.test"]))];
        let sandbox = sandbox(&ground, "breaks-off", all).await;
        for port in [443, 8443] {
            let told = python(
                &sandbox,
                &format!(
                    "c = ssl.create_default_context()\n\
                    s = c.wrap_socket(socket.create_connection(('allowed.test', {port}), timeout=20), server_hostname='allowed.test')\n\
                    head = 'POST /count HTTP/1.1\\r\\nHost: allowed.test:{port}\\r\\nTransfer-Encoding: chunked\\r\\nX-Key: ' + os.environ['P1'] + '\\r\\n\\r\\n'\n\
                    s.sendall((head + '4\\r\\nabcd\\r\\nzz\\r\\n').encode())\n\
                    print(told(s))\n"
                ),
            )
            .await;
            assert!(told.contains("x-longhand-egress: failed"), "{told}");
            let broken = ground
                .recorded("is of what broke off", |it| it.port == Some(port))
                .await;
            assert_eq!(broken.credential, Some(id(1)), "{broken:?}");
            assert_eq!(broken.action, Action::Denied);
            assert_eq!(broken.address, Some(SERVER.parse().unwrap()));
            assert!(broken.bytes_out > 4, "{broken:?}");
        }
    });
}

/// A sandbox that may log in in clear text, to servers that speak no TLS.
async fn in_clear(ground: &Ground, name: &str) -> Arc<dyn sandbox::Sandbox> {
    *ground.credentials.lock().unwrap() = CredentialsFile {
        cleartext: true,
        credentials: vec![credential(1, SECRET, Some(&["allowed.test"]))],
    };
    ground.sandbox(name).await
}

/// A message of PostgreSQL's.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind], &length[..], body].concat()
}

/// What a client says in a message.
fn said(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes(head[1..].try_into().unwrap());
    let mut body = vec![0; usize::try_from(length - 4).unwrap()];
    stream.read_exact(&mut body).ok()?;
    Some(body)
}

/// Answers that there is no TLS, and takes a client's start.
fn begin(stream: &mut TcpStream) {
    let mut first = [0; 8];
    stream.read_exact(&mut first).unwrap();
    stream.write_all(b"N").unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let length = u32::from_be_bytes(length) - 4;
    let mut start = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut start).unwrap();
}

/// A server that asks for the password in clear, and then speaks no PostgreSQL any more.
fn that_babbles(mut stream: TcpStream, seen: &Arc<Mutex<Vec<u8>>>) {
    begin(&mut stream);
    stream
        .write_all(&message(b'R', &3_u32.to_be_bytes()))
        .unwrap();
    let shown = said(&mut stream).unwrap();
    seen.lock().unwrap().extend(shown);
    stream.write_all(&message(b'?', b"")).unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
}

/// A server that asks for the proof of a password, by SCRAM, again and again; a point is noted for each that it is shown.
fn that_never_has_enough(mut stream: TcpStream, seen: &Arc<Mutex<Vec<u8>>>) {
    begin(&mut stream);
    let asks = [&10_u32.to_be_bytes()[..], b"SCRAM-SHA-256\0\0"].concat();
    stream.write_all(&message(b'R', &asks)).unwrap();
    let first = String::from_utf8(said(&mut stream).unwrap()).unwrap();
    let (_, nonce) = first.split_once("r=").unwrap();
    let goes_on = format!("r={nonce}more,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    let goes_on = [&11_u32.to_be_bytes()[..], goes_on.as_bytes()].concat();
    while stream.write_all(&message(b'R', &goes_on)).is_ok() && said(&mut stream).is_some() {
        seen.lock().unwrap().push(b'.');
    }
}

/// A client that logs in with its placeholder, and says what it is told.
const LOGS_IN: &str = "s = socket.create_connection(('allowed.test', 5433), timeout=20)\n\
    start = b'\\0\\3\\0\\0user\\0me\\0\\0'\n\
    s.sendall(struct.pack('>I', len(start) + 4) + start)\n\
    asked = b''\n\
    while len(asked) < 9: asked += s.recv(9 - len(asked))\n\
    shown = os.environ['P1'].encode() + b'\\0'\n\
    s.sendall(b'p' + struct.pack('>I', len(shown) + 4) + shown)\n\
    print(told(s))\n";

#[test]
fn a_login_that_fails_when_the_server_was_shown_the_secret_is_recorded_with_the_credential() {
    on_ground(unrestricted(), |ground| async move {
        let server = ground.server(SERVER, 5433, that_babbles);
        let sandbox = in_clear(&ground, "babbles").await;
        let told = python(&sandbox, LOGS_IN).await;
        assert!(told.contains("speaks no PostgreSQL"), "{told}");
        assert!(server.text().contains(SECRET), "it was shown it");
        let record = ground.denied("allowed.test", "upstream").await;
        assert_eq!(record.credential, Some(id(1)), "{record:?}");
        assert_eq!(record.address, Some(SERVER.parse().unwrap()), "{record:?}");
    });
}

#[test]
fn a_server_is_shown_the_proof_of_a_password_once_in_a_login() {
    on_ground(unrestricted(), |ground| async move {
        let server = ground.server(SERVER, 5433, that_never_has_enough);
        let sandbox = in_clear(&ground, "proves").await;
        let told = python(&sandbox, LOGS_IN).await;
        assert!(told.contains("the server's SCRAM is wrong"), "{told}");
        let record = ground.denied("allowed.test", "upstream").await;
        assert!(record.reason.contains("asks twice"), "{record:?}");
        assert_eq!(server.text(), ".");
        assert_eq!(run(&sandbox, "echo still there").await, "still there");
    });
}
