//! Credentials where something stops in the middle: a server that says a secret in two parts.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use crate::ground::{SERVER, on_ground, python, unrestricted};
use crate::injected::{credential, placeholder, sandbox};

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
