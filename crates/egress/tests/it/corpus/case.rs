//! What a case is, and the proof of all of a subject in one sandbox. It knows no attack.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use egress::audit::{Action, Record};
use sandbox::Sandbox;

use crate::ground::{
    Ground, NAT64, OTHER, PATIENCE, PRELUDE, PRIVATE, SERVER, SERVER_V6, Server, echo, hello,
    on_ground, policy, python, tls_hello, unrestricted,
};

/// One attack.
pub struct Case {
    pub name: &'static str,
    /// What it tries, for the table.
    pub tries: &'static str,
    /// The policy in force; `ALL` allows all but the always-denied set.
    pub policy: &'static str,
    /// A Python program that prints one line.
    pub attack: &'static str,
    /// What it prints.
    pub denied: &'static str,
    /// The rule of the record that says so; empty where the kernel refuses, or where nothing is refused because
    /// nothing leaves.
    pub rule: &'static str,
    /// What stops it, for the table.
    pub stops: &'static str,
    /// How that is taken away.
    pub without: Without,
    /// What the same program prints then.
    pub reached: &'static str,
}

/// A defence that is taken away, and nothing else.
pub enum Without {
    /// Another policy in the same sandbox.
    Policy(&'static str),
    /// All of our network: the program runs in a process outside, with the same names and servers.
    Network,
}

/// All is allowed but the always-denied set.
pub const ALL: &str = "[networking]\ntype = 'unrestricted'\n";
/// One name is, on every port.
pub const ONE: &str = "[[rules]]\nname = 'one'\naction = 'allow'\nto = ['allowed.test']\n";
/// All is allowed, private and metadata addresses and the host's own too.
pub const LIFTED: &str = "allow_private = ['169.254.0.0/16', '10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7', '64:ff9b::/96', '192.0.2.0/24', '2001:db8::/32']\n[networking]\ntype = 'unrestricted'\n";

/// Beside [`PRELUDE`]: the status of an answer, and questions to a resolver.
const MORE: &str = "S = lambda r: r[9:12] if r.startswith('HTTP/') else r\n\
    def send(host, *lines, port=80): return S(tcp(host, port, '\\r\\n'.join(lines).encode('latin1')))\n\
    def name(n): return b''.join(bytes([len(l)]) + l.encode() for l in n.split('.')) + b'\\0'\n\
    def query(n, kind): return struct.pack('>HHHHHH', 7, 0x100, 1, 0, 0, 0) + name(n) + struct.pack('>HH', kind, 1)\n\
    def who(a):\n    \
        if a[3] & 15: return {5: 'REFUSED', 2: 'SERVFAIL'}.get(a[3] & 15, 'rcode %d' % (a[3] & 15))\n    \
        if not struct.unpack('>H', a[6:8])[0]: return 'nothing'\n    \
        return 'theirs' if a[-4:] == bytes([203, 0, 113, 53]) else 'ours'\n\
    def ask(n, kind, to='198.51.100.10'):\n    \
        def go():\n        \
            s = socket.socket(socket.AF_INET6 if ':' in to else socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(20)\n        \
            s.connect((to, 53)); s.send(query(n, kind)); return who(s.recv(2048))\n    \
        return tried(go)\n\
    def ask_tcp(n, kind, to='198.51.100.10'):\n    \
        def go():\n        \
            s = socket.create_connection((to, 53), timeout=20); q = query(n, kind)\n        \
            s.sendall(struct.pack('>H', len(q)) + q); return who(s.recv(2048)[2:])\n    \
        return tried(go)\n\
    def udp(host, port):\n    \
        def go():\n        \
            s = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(20)\n        \
            s.connect((host, port)); s.send(b'datagram'); return s.recv(64).decode()\n    \
        return tried(go)\n\
    def push(s, bytes):\n    \
        try: s.sendall(bytes)\n    \
        except OSError: pass\n\
    def first(host, port, bytes):\n    \
        def go():\n        \
            s = socket.create_connection((host, port), timeout=20); push(s, bytes); return S(s.recv(100).decode('latin1'))\n    \
        return tried(go)\n\
    def shout(host, port):\n    \
        def go():\n        \
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n        \
            s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)\n        \
            s.sendto(b'datagram', (host, port))\n        \
            here = len(socket.if_nameindex()) == 1\n        \
            return s.recv(64).decode() if select.select([s], [], [], 1 if here else 20)[0] else 'nothing'\n    \
        return tried(go)\n\
    last = socket.if_nameindex()[-1][1]\n\
    def hello(names):\n    \
        sni = b''.join(b'\\0' + struct.pack('>H', len(n)) + n for n in names)\n    \
        ext = struct.pack('>HHH', 0, len(sni) + 2, len(sni)) + sni if names else b''\n    \
        ext += bytes.fromhex('002b0003020304') + bytes.fromhex('000d0004000208 04'.replace(' ', '')) + bytes.fromhex('000a00040002001d')\n    \
        body = b'\\3\\3' + bytes(32) + b'\\0' + bytes.fromhex('00021301') + b'\\1\\0' + struct.pack('>H', len(ext)) + ext\n    \
        shake = b'\\1' + struct.pack('>I', len(body))[1:] + body\n    \
        return b'\\x16\\3\\1' + struct.pack('>H', len(shake)) + shake\n";

/// Names and where they lead, inside and outside.
const NAMES: &[(&str, &str)] = &[
    ("denied.test", SERVER),
    ("rebound.test", PRIVATE[0]),
    ("allowed.evil.test", OTHER),
    ("doh.test", OTHER),
    ("xn--allwed-3uf.test", OTHER),
    ("six-private.test", PRIVATE[5]),
    ("loop.test", "127.0.0.1"),
    ("mapped.test", "::ffff:10.0.0.5"),
    ("nat64.test", NAT64),
];

/// Shows of each case that it is denied as it says, that no server has seen a byte, and that it succeeds without
/// what stops it.
pub fn prove(cases: &'static [Case]) {
    on_ground(unrestricted(), move |ground| async move {
        for (name, address) in NAMES {
            ground.name(name, &[address]);
        }
        let servers = servers(&ground);
        misbehaving(&ground);
        let sandbox = ground.sandbox("corpus").await;
        let mut failed = Vec::new();
        for case in cases {
            if let Err(problem) = denied(case, &ground, &sandbox, &servers).await {
                failed.push(format!("{}: {problem}", case.name));
            }
            if let Err(problem) = reached(case, &ground, &sandbox).await {
                failed.push(format!("{}, control: {problem}", case.name));
            }
        }
        assert!(
            failed.is_empty(),
            "{} failed:\n{}",
            failed.len(),
            failed.join("\n")
        );
    });
}

async fn denied(
    case: &Case,
    ground: &Arc<Ground>,
    sandbox: &Arc<dyn Sandbox>,
    servers: &[Server],
) -> Result<(), String> {
    in_force(ground, case.policy).await;
    let (before, records) = (seen(servers), ground.audit().len());
    let said = python(sandbox, &format!("{MORE}{}", case.attack)).await;
    if said != case.denied {
        return Err(format!("it printed {said:?} and not {:?}", case.denied));
    }
    if seen(servers) != before {
        return Err("a server has seen something of it".to_owned());
    }
    if !case.rule.is_empty() {
        let is = |it: &Record| it.action == Action::Denied && it.rule == case.rule;
        // Written in batches, a moment later.
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !ground.audit().iter().skip(records).any(is) {
            if tokio::time::Instant::now() > deadline {
                let all = ground.audit();
                let rules: Vec<_> = all.iter().skip(records).map(|it| &it.rule).collect();
                return Err(format!("no record of it by {}, but {rules:?}", case.rule));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

async fn reached(
    case: &Case,
    ground: &Arc<Ground>,
    sandbox: &Arc<dyn Sandbox>,
) -> Result<(), String> {
    let program = format!("{MORE}{}", case.attack);
    let said = match case.without {
        Without::Policy(policy) => {
            in_force(ground, policy).await;
            python(sandbox, &program).await
        }
        Without::Network => outside(&program).await,
    };
    if said == case.reached {
        return Ok(());
    }
    Err(format!("it printed {said:?} and not {:?}", case.reached))
}

async fn in_force(ground: &Arc<Ground>, text: &str) {
    ground.set_policy("corpus", &policy(text)).await;
}

/// The program in a process of the namespace in which the egress process is.
async fn outside(program: &str) -> String {
    let names = NAMES.iter().copied().chain([
        ("allowed.test", SERVER),
        ("other.test", OTHER),
        ("six.test", SERVER_V6),
    ]);
    let names: Vec<String> = names
        .map(|(name, ip)| format!("'{name}': '{ip}'"))
        .collect();
    let names = format!(
        "found = socket.getaddrinfo\nNAMES = {{{}}}\n\
         socket.getaddrinfo = lambda h, *a, **k: found(NAMES.get(h.lower().rstrip('.'), h), *a, **k)\n",
        names.join(", ")
    );
    let program = format!("{PRELUDE}{names}{program}");
    let run = move || {
        Command::new("/usr/bin/python3")
            .args(["-c", &program])
            .output()
            .unwrap()
    };
    let ran = tokio::task::spawn_blocking(run).await.unwrap();
    let said = [ran.stdout, ran.stderr].concat();
    String::from_utf8_lossy(&said).trim().to_owned()
}

fn seen(servers: &[Server]) -> usize {
    servers
        .iter()
        .map(|server| server.seen.lock().unwrap().len())
        .sum()
}

/// Whatever an attack could reach, if it were let through.
fn servers(ground: &Arc<Ground>) -> Vec<Server> {
    let mut servers = Vec::new();
    for ip in [SERVER, OTHER, SERVER_V6].into_iter().chain(PRIVATE) {
        servers.push(ground.serve(ip, 80, hello));
    }
    servers.push(ground.serve(SERVER, 7_000, echo));
    servers.push(ground.serve(OTHER, 7_000, echo));
    for (ip, port) in [(SERVER, 443), (OTHER, 443), (OTHER, 853)] {
        servers.push(ground.server(ip, port, tls_hello));
    }
    servers.push(ground.serve(SERVER, 53, |bytes| {
        let answer = resolved(bytes.get(2..).unwrap_or_default());
        let length = u16::try_from(answer.len()).unwrap();
        [&length.to_be_bytes(), answer.as_slice()].concat()
    }));
    servers.push(datagrams(ground, SERVER, 53, resolved));
    for (ip, port) in [(SERVER, 443), (SERVER, 4_444), (SERVER_V6, 4_444)] {
        servers.push(datagrams(ground, ip, port, echo));
    }
    servers.push(ground.serve(NAT64, 80, hello));
    // On whatever address of the cable, the link-local one too.
    servers.push(ground.serve("::", 8_080, hello));
    servers.push(heard_by_many(ground));
    for address in ["192.0.2.1:7777", "127.0.0.1:8787", "[::1]:8787"] {
        servers.push(on_the_host(address));
    }
    servers
}

/// Servers that do what none should. That they are spoken to is no failure.
fn misbehaving(ground: &Arc<Ground>) {
    for (port, first, then) in [
        (7_101, "", "HTTP/1.1 103 Early Hints\r\n\r\n"),
        (7_102, "HTTP/1.1 200 OK\r\n", "X: 0123456789\r\n"),
    ] {
        ground.server(SERVER, port, move |mut stream, _| {
            let _ = stream.read(&mut [0; 4_096]);
            let _ = stream.write_all(first.as_bytes());
            // It ends when nobody takes it any more.
            while stream.write_all(then.as_bytes()).is_ok() {}
        });
    }
    const SWITCHED: &[u8] =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tunnel\r\n\r\n";
    ground.serve(SERVER, 7_103, |request| {
        let request = String::from_utf8_lossy(request).to_lowercase();
        if request.contains("tunnel") {
            SWITCHED.to_vec()
        } else {
            hello(&[])
        }
    });
    ground.serve(SERVER, 7_104, |_| SWITCHED.to_vec());
    // Answers a request of which it has all, and asks for more of one that was begun.
    ground.server(SERVER, 7_105, |mut stream, _| {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
            line.push(byte[0]);
            if line == b"GET /secret" {
                let _ = stream.write_all(b"?");
            }
        }
        if line.ends_with(b"\r\n\r\n") {
            let _ = stream.write_all(&hello(&[]));
        }
    });
    // Answers whatever it is asked, one request after the other.
    ground.server(SERVER, 7_106, |mut stream, _| {
        let (mut line, mut byte) = (Vec::new(), [0]);
        while matches!(stream.read(&mut byte), Ok(1)) {
            line.push(byte[0]);
            if line.ends_with(b"\r\n\r\n") {
                line.clear();
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\n");
            }
        }
    });
}

/// Who listens to a group and to broadcasts.
fn heard_by_many(ground: &Arc<Ground>) -> Server {
    let server = Server::default();
    let (of, socket) = (
        server.clone(),
        ground.among_servers(|| {
            let socket = UdpSocket::bind("0.0.0.0:4445").unwrap();
            let (group, here) = ([239, 1, 2, 3].into(), [192, 0, 2, 2].into());
            socket.join_multicast_v4(&group, &here).unwrap();
            socket
        }),
    );
    std::thread::spawn(move || answer_datagrams(&socket, &of, echo));
    server
}

/// What a resolver outside answers: an address that is none of ours.
fn resolved(question: &[u8]) -> Vec<u8> {
    let mut answer = question.to_vec();
    if answer.len() > 12 {
        (answer[2], answer[3], answer[7]) = (0x81, 0x80, 1);
        answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 203, 0, 113, 53]);
    }
    answer
}

fn datagrams(ground: &Arc<Ground>, ip: &str, port: u16, answer: fn(&[u8]) -> Vec<u8>) -> Server {
    let (server, address) = (
        Server::default(),
        SocketAddr::new(ip.parse().unwrap(), port),
    );
    let (of, socket) = (
        server.clone(),
        ground.among_servers(move || UdpSocket::bind(address).unwrap()),
    );
    // Ends with the process, as the other servers do.
    std::thread::spawn(move || answer_datagrams(&socket, &of, answer));
    server
}

fn answer_datagrams(socket: &UdpSocket, of: &Server, answer: fn(&[u8]) -> Vec<u8>) {
    let mut buffer = [0; 2_048];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        of.seen.lock().unwrap().extend_from_slice(&buffer[..length]);
        let _ = socket.send_to(&answer(&buffer[..length]), from);
    }
}

/// A server of the host that the egress process runs on.
fn on_the_host(address: &str) -> Server {
    let server = Server::default();
    let (of, listener) = (server.clone(), TcpListener::bind(address).unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut buffer = [0; 2_048];
            let length = stream.read(&mut buffer).unwrap_or(0);
            of.seen.lock().unwrap().extend_from_slice(&buffer[..length]);
            let _ = stream.write_all(&hello(&[]));
        }
    });
    server
}
