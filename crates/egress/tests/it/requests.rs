//! Requests in clear text on connections that are kept: each is judged, carried on whole, answered in order, and
//! recorded.

use std::io::{Read as _, Write as _};

use egress::audit::{Action, Kind};

use crate::ground::{SERVER, on_ground, policy, python, run, unrestricted};
use crate::upstreams::http;

const RULES: &str = "networking = { type = 'unrestricted' }\n\
    [[rules]]\nname = 'no secrets'\naction = 'deny'\nto = ['allowed.test']\npaths = ['/secret']\n";

#[test]
fn every_request_on_a_connection_is_judged_and_answered_in_order() {
    on_ground(policy(RULES), |ground| async move {
        let server = ground.server(SERVER, 80, http());
        let sandbox = ground.sandbox("kept").await;
        let program = r#"
import http.client
c = http.client.HTTPConnection('allowed.test', timeout=20)
def get(path, method='GET', body=None, headers={}):
    c.request(method, path, body=body, headers=headers)
    r = c.getresponse(); return r.status, r.read().decode(), dict((k.lower(), v) for k, v in r.getheaders())
print([get('/a')[:2], get('/b/../c%41?q=1')[:2]], c.sock.getsockname() is not None)
first = c.sock.getsockname()
print(get('/count', 'POST', b'x' * 3000000)[:2], get('/count', 'POST', iter([b'ab', b'', b'cd' * 50000]))[:2])
print(get('/a', 'HEAD')[:2], get('/none')[:2], get('/same')[:2], get('/spoof')[2].get('x-longhand-egress'))
print(len(get('/big')[1]), c.sock.getsockname() == first)
told = get('/told', headers={'X-One': 'eins', 'Connection': 'X-Drop, keep-alive', 'X-Drop': '1', 'TE': 'trailers', 'Proxy-Connection': 'x'})[1]
print('x-one: eins' in told, 'x-drop' in told, 'te:' in told, 'proxy' in told, 'host: allowed.test' in told)
print(get('/secret/x')[0], c.sock is None)
print(get('/close')[1], c.sock is None)
"#;
        let said = python(&sandbox, program).await;
        let expected = "[(200, 'hello /a\\n'), (200, 'hello /cA\\n')] True\n\
            (200, '3000000') (200, '100002')\n\
            (200, '') (204, '') (304, '') None\n\
            67108864 True\n\
            True False True False True\n\
            403 True\n\
            closing True";
        assert_eq!(said, expected);
        // Two of the client's: one ended with the refusal. Each has one to the server.
        assert_eq!(server.connections(), 2, "{}", server.text());
        let seen = server.text();
        assert!(!seen.contains("secret"), "{seen}");
        assert!(seen.contains("GET /cA?q=1 HTTP/1.1"), "{seen}");
        let denied = ground.denied("allowed.test", "no secrets").await;
        assert_eq!(
            (denied.kind, denied.path.as_deref()),
            (Kind::Request, Some("/secret/x"))
        );
        let big = ground
            .recorded("is of the big answer", |it| {
                it.path.as_deref() == Some("/big")
            })
            .await;
        assert!(
            big.bytes_in > 67_108_864 && big.upstream_status == Some(200),
            "{big:?}"
        );
        assert_eq!(
            (big.action, big.protocol.as_str()),
            (Action::Allowed, "http")
        );
        let sent = ground
            .recorded("is of the big body", |it| it.bytes_out > 3_000_000)
            .await;
        assert_eq!(sent.method.as_deref(), Some("POST"));
    });
}

#[test]
fn pipelined_requests_trailers_expectations_and_websockets_are_carried() {
    on_ground(policy(RULES), |ground| async move {
        let server = ground.server(SERVER, 80, http());
        let sandbox = ground.sandbox("pipe").await;
        let program = r#"
H = 'Host: allowed.test\r\n'
def raw(text): return tcp('allowed.test', 80, text.encode())
def bodies(text): return [part.split('\r\n\r\n', 1)[1][:9] for part in text.split('HTTP/1.1 ')[1:]]
print(bodies(raw('GET /one HTTP/1.1\r\n%s\r\nPOST /echo HTTP/1.1\r\n%sContent-Length: 9\r\n\r\nabcdefghiGET /two HTTP/1.1\r\n%sConnection: close\r\n\r\n' % (H, H, H))))
said = raw('GET /one HTTP/1.1\r\n%s\r\nGET /secret HTTP/1.1\r\n%s\r\nGET /two HTTP/1.1\r\n%s\r\n' % (H, H, H))
print([part[:3] for part in said.split('HTTP/1.1 ')[1:]], 'hello /two' in said)
said = raw('POST /echo HTTP/1.1\r\n%sTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\nContent-Length: 9\r\n\r\n' % H)
print('abc' in said, said.lower().endswith('0\r\n\r\n'))
said = raw('GET /trailers HTTP/1.1\r\n%sTE: trailers\r\nConnection: close, te\r\n\r\n' % H)
print(said.endswith('0\r\ngrpc-status: 0\r\n\r\n') or said)
print(raw('GET /one HTTP/1.0\r\n%s\r\n' % H).split('\r\n')[-1].strip(), raw('GET /trailers HTTP/1.0\r\n%s\r\n' % H).endswith('\r\n\r\nbody'))
s = socket.create_connection(('allowed.test', 80), timeout=20)
s.sendall(('POST /count HTTP/1.1\r\n%sExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n' % H).encode())
got = s.recv(25)
s.sendall(b'body'); print(got.decode()[:12], told(s)[-1:])
s = socket.create_connection(('allowed.test', 80), timeout=20)
s.sendall(('POST /secret HTTP/1.1\r\n%sExpect: 100-continue\r\nContent-Length: 4\r\n\r\n' % H).encode())
print(told(s)[:12])
s = socket.create_connection(('allowed.test', 80), timeout=20)
s.sendall(('GET /upgrade HTTP/1.1\r\n%sConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\nearly' % H).encode())
got = b''
s.settimeout(20)
while not got.endswith(b'early'):
    part = s.recv(1024); got += part
    if not part: break
s.sendall(b'GET /secret HTTP/1.1\r\n\r\n')
print(got[:12], s.recv(1024)); s.close()
said = raw('GET /told HTTP/1.1\r\n%sConnection: Upgrade, close\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n' % H)
print(said[9:12], 'h2c' in said)
"#;
        let said = python(&sandbox, program).await;
        let expected = "['hello /on', '9\\r\\nabcdef', 'hello /tw']\n\
            ['200', '403'] False\n\
            True True\n\
            True\n\
            hello /one True\n\
            HTTP/1.1 100 4\n\
            HTTP/1.1 403\n\
            b'HTTP/1.1 101' b'GET /secret HTTP/1.1\\r\\n\\r\\n'\n\
            200 False";
        assert_eq!(said, expected);
        assert!(!server.text().contains("/secret"), "{}", server.text());
        ground
            .recorded("is of the WebSocket", |it| it.upstream_status == Some(101))
            .await;
    });
}

#[test]
fn a_server_that_misbehaves_gives_one_line_and_an_answer_that_stops_is_seen_to() {
    on_ground(unrestricted(), |ground| async move {
        let answers: [(u16, &'static [u8]); 8] = [
            (8001, b""),
            (8002, b"SSH-2.0-OpenSSH_9.2\r\n"),
            (8003, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"),
            (8004, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
            (8005, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
            (8006, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
            (8007, b"HTTP/1.0 200 OK\r\n\r\nuntil the end"),
            (8008, b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ];
        for (port, bytes) in answers {
            ground.server(SERVER, port, move |mut stream, _| {
                let _ = stream.read(&mut [0; 4096]);
                stream.write_all(bytes).unwrap();
            });
        }
        ground.server(SERVER, 8009, |mut stream, _| {
            let _ = stream.read(&mut [0; 4096]);
            // A flood: it ends when nobody takes it any more.
            while stream
                .write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n")
                .is_ok()
            {}
        });
        ground.server(SERVER, 8010, |mut stream, _| {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
            while stream
                .write_all(b"X: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n")
                .is_ok()
            {}
        });
        let sandbox = ground.sandbox("badly").await;
        let program = r#"
for port in (8001, 8002, 8003, 8004, 8005, 8006, 8007, 8008, 8009, 8010):
    said = tcp('allowed.test', port, b'GET / HTTP/1.1\r\nHost: allowed.test:%d\r\nConnection: close\r\n\r\n' % port)
    said = said[max(said.rfind('HTTP/1.1 '), 0):]
    print(port, said[9:12] if said.startswith('HTTP') else said, said.split('\r\n\r\n', 1)[1].replace('\r\n', '|').strip()[:90] if said.startswith('HTTP') else '')
"#;
        let said = python(&sandbox, program).await;
        let expected = "8001 502 longhand egress: allowed.test:8001 closed the connection before it had answered\n\
            8002 502 longhand egress: allowed.test:8002 answers with what is no HTTP, or with too long a head\n\
            8003 ECONNRESET \n\
            8004 ECONNRESET \n\
            8005 502 longhand egress: allowed.test:8005 answers with what is no HTTP, or with too long a head\n\
            8006 200 3|abc|0||\n\
            8007 200 d|until the end|0||\n\
            8008 200 ok\n\
            8009 502 longhand egress: allowed.test:8009 answers with 1xx again and again, and never with the an\n\
            8010 502 longhand egress: allowed.test:8010 answers with what is no HTTP, or with too long a head";
        assert_eq!(said, expected, "{said}");
    });
}

#[test]
fn hints_before_an_answer_are_passed_on_as_they_come_and_to_nobody_who_does_not_know_them() {
    on_ground(unrestricted(), |ground| async move {
        // Answers when the client has said that it has the hint.
        ground.server(SERVER, 80, |mut stream, seen| {
            let mut head = [0; 4096];
            let length = stream.read(&mut head).unwrap();
            let is_body_here = head[..length].ends_with(b"!");
            let hint = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\
                X-Longhand-Egress: denied\r\n\r\nHTTP/1.1 104 Upload Resumption\r\nLocation: /x\r\n\r\n";
            stream.write_all(hint).unwrap();
            if !is_body_here {
                stream.read_exact(&mut [0]).unwrap();
            }
            seen.lock().unwrap().push(b'!');
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .unwrap();
        });
        let sandbox = ground.sandbox("hints").await;
        let program = r#"
def post(version, more=''):
    s = socket.create_connection(('allowed.test', 80), timeout=20)
    s.sendall(('POST / HTTP/%s\r\nHost: allowed.test\r\nContent-Length: 1\r\nConnection: close\r\n%s\r\n' % (version, more)).encode())
    return s
s = post('1.1')
got = b''
while got.count(b'\r\n\r\n') < 2: got += s.recv(1024)
print(got.decode().lower().replace('\r\n', '|'))
s.sendall(b'!'); print(told(s)[:15])
s = post('1.0'); s.sendall(b'!'); print(told(s).count('HTTP/1.1 '))
s = post('1.1', 'Expect: 100-continue\r\n')
got = b''
while b'HTTP/1.1 100' not in got or got.count(b'\r\n\r\n') < 3: got += s.recv(1024)
s.sendall(b'!'); print(got.count(b'HTTP/1.1 103'), told(s)[-2:])
"#;
        let said = python(&sandbox, program).await;
        assert_eq!(
            said,
            "http/1.1 103 early hints|link: </style.css>||http/1.1 104 |location: /x||\n\
             HTTP/1.1 200 OK\n1\n1 ok",
            "{said}"
        );
    });
}

#[test]
fn an_answer_that_goes_on_for_long_is_passed_on_as_it_comes() {
    on_ground(unrestricted(), |ground| async move {
        // Each event is sent only after the client has said that it has the one before.
        ground.server(SERVER, 80, |mut stream, _| {
            let _ = stream.read(&mut [0; 4096]);
            let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head).unwrap();
            for byte in [b"x", b"y", b"z"] {
                stream.write_all(b"9\r\ndata: ").unwrap();
                stream.write_all(byte).unwrap();
                stream.write_all(b"\n\n\r\n").unwrap();
                let mut had = [0];
                stream.read_exact(&mut had).unwrap();
                assert_eq!(&had, byte);
            }
            stream.write_all(b"0\r\n\r\n").unwrap();
        });
        let sandbox = ground.sandbox("stream").await;
        let program = r#"
s = socket.create_connection(('allowed.test', 80), timeout=20)
s.sendall(b'POST / HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: 3\r\n\r\n')
got = b''
for n in (b'x', b'y', b'z'):
    while n not in got.split(b'\r\n\r\n', 1)[-1]: got += s.recv(1024)
    s.sendall(n)
print(told(s).endswith('0\r\n\r\n'), b'event-stream' in got)
"#;
        assert_eq!(python(&sandbox, program).await, "True True");
        // curl says the same of it.
        let said = run(
            &sandbox,
            "curl -sS -o /dev/null -w '%{http_code}' --max-time 20 http://allowed.test:81/",
        )
        .await;
        assert!(said.starts_with("502"), "{said}");
    });
}
