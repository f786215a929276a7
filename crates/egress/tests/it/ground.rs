//! The ground of tests that carry: an outer network namespace of this test alone, in which the egress process
//! runs, a second one with the servers, and real sandboxes. No route leads out of either.

use std::collections::HashMap;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::outer::{enter, interfaces, namespaces};
use egress::audit::{Action, Record};
use egress::host::{Carrier, Orders, Program, RefusedToken, Settings, serve};
use egress::inject::CredentialsFile;
use egress::policy::{NetworkingFile, PolicyFile};
use sandbox::{
    Config, Content, Ends, Local, Network, Provider as _, Sandbox, SandboxId, Spec, Tool, ToolCall,
    Trusting,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use crate::upstreams::tls_hello;
use crate::upstreams::{ROOT, revoked};

/// How long a test waits for what must happen; it only ends a test that has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Where servers are; every one of them is reached if it is dialled.
pub const SERVER: &str = "198.51.100.10";
pub const OTHER: &str = "203.0.113.10";
pub const SERVER_V6: &str = "2001:db8:1::10";

/// A private address behind the prefix of NAT64.
pub const NAT64: &str = "64:ff9b::a00:5";

/// Addresses of the servers' namespace that no sandbox may reach.
pub const PRIVATE: [&str; 6] = [
    "169.254.169.254",
    "10.0.0.5",
    "172.16.0.5",
    "192.168.0.5",
    "100.64.0.5",
    "fd00:ec2::254",
];

/// Names and the addresses that the host's resolver gives them.
pub type Names = Arc<Mutex<HashMap<String, Vec<IpAddr>>>>;

pub struct Ground {
    pub local: Local,
    pub carrier: Carrier,
    /// Tokens that were refused, for the test that takes them; else the next one is left unanswered.
    pub refused: Mutex<Option<mpsc::Receiver<RefusedToken>>>,
    /// Those of sandboxes that are made from now on.
    pub credentials: Arc<Mutex<CredentialsFile>>,
    pub names: Names,
    /// How often the host's resolver was asked.
    pub lookups: Arc<AtomicUsize>,
    pub dir: TempDir,
    policy: Arc<Mutex<PolicyFile>>,
    trusting: Arc<Mutex<HashMap<String, Trusting>>>,
    servers: OwnedFd,
    host: Mutex<CancellationToken>,
    resolver: dial::Resolver,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Runs `test` on a ground of its own.
pub fn on_ground<F: Future<Output = ()>>(policy: PolicyFile, test: impl FnOnce(Arc<Ground>) -> F) {
    let (outer, servers) = namespaces();
    enter(&outer);
    assert_eq!(
        interfaces(),
        ["lo", "out0"],
        "nothing but this leads out of here"
    );
    let outer = Arc::new(outer);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .on_thread_start(move || enter(&outer))
        .build()
        .unwrap();
    runtime.block_on(async {
        let ground = Arc::new(Ground::new(servers, policy).await);
        test(Arc::clone(&ground)).await;
        ground.local.shutdown().await;
        ground.stop.cancel();
        ground.tasks.close();
        ground.tasks.wait().await;
    });
}

/// A policy that allows all but the always-denied set.
pub fn unrestricted() -> PolicyFile {
    with(NetworkingFile::Unrestricted {})
}

/// A policy that allows those hosts.
pub fn limited(hosts: &[&str]) -> PolicyFile {
    with(NetworkingFile::Limited {
        allowed_hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        allow_package_managers: false,
        allow_mcp_servers: false,
    })
}

/// The policy of a file.
pub fn policy(text: &str) -> PolicyFile {
    toml_of(text)
}

/// Documentation addresses are nobody's, so the set denies them; here they stand for the internet's.
fn toml_of(text: &str) -> PolicyFile {
    let mut policy: PolicyFile = toml::from_str(text).unwrap();
    for net in ["198.51.100.0/24", "203.0.113.0/24", "2001:db8:1::/48"] {
        policy.allow_private.push(net.parse().unwrap());
    }
    policy
}

fn with(networking: NetworkingFile) -> PolicyFile {
    let mut policy = toml_of("");
    policy.networking = networking;
    policy
}

impl Ground {
    async fn new(servers: OwnedFd, policy: PolicyFile) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (names, lookups) = (Names::default(), Arc::<AtomicUsize>::default());
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let host = stop.child_token();
        let (known, asked) = (names.clone(), lookups.clone());
        let resolver = dial::Resolver::over(dial::Mode::Exempt, move |name| {
            asked.fetch_add(1, Ordering::SeqCst);
            let known = known.lock().unwrap();
            let addresses = known.get(name).ok_or(std::io::ErrorKind::NotFound)?;
            Ok(addresses.iter().map(|ip| SocketAddr::new(*ip, 0)).collect())
        });
        let egress = dir.path().join("egress");
        std::fs::create_dir(&egress).unwrap();
        begin(&tasks, egress.clone(), resolver.clone(), host.clone());
        let program = Program {
            dir: egress,
            path: PathBuf::from("/nowhere"),
            arguments: Vec::new(),
        };
        let (carrier, refused) = Carrier::start(program, &tasks, stop.clone());
        let credentials = Arc::<Mutex<CredentialsFile>>::default();
        let trusting = Arc::default();
        let policy = Arc::new(Mutex::new(policy));
        let network = Carried {
            carrier: carrier.clone(),
            policy: Arc::clone(&policy),
            credentials: Arc::clone(&credentials),
            trusting: Arc::clone(&trusting),
        };
        let sandboxes = dir.path().join("sandboxes");
        let mut config = Config::beside(&sandboxes);
        config.orphan = Duration::ZERO;
        config.network = Some(Arc::new(network));
        let ground = Self {
            local: Local::new(sandboxes, config).unwrap(),
            carrier,
            refused: Mutex::new(Some(refused)),
            credentials,
            names,
            lookups,
            dir,
            policy,
            trusting,
            servers,
            host: Mutex::new(host),
            resolver,
            stop,
            tasks,
        };
        for (name, ip) in [
            ("allowed.test", SERVER),
            ("other.test", OTHER),
            ("six.test", SERVER_V6),
        ] {
            ground.name(name, &[ip]);
        }
        ground
    }

    /// Has the host's resolver give `name` these addresses.
    pub fn name(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        self.names
            .lock()
            .unwrap()
            .insert(name.to_owned(), addresses);
    }

    pub async fn sandbox(&self, name: &str) -> Arc<dyn Sandbox> {
        let id = SandboxId::new(name).unwrap();
        match self.local.attach(Spec::new(id)).await {
            Ok(sandbox) => sandbox,
            Err(error) => panic!("no sandbox on this host: {error}: {error:?}"),
        }
    }

    /// Has that be the policy of sandboxes that are started from now on.
    pub fn start_with(&self, policy: PolicyFile) {
        *self.policy.lock().unwrap() = policy;
    }

    /// Puts other orders in force for that sandbox, as a server does.
    pub async fn set_policy<'a>(&self, name: &str, orders: impl Into<Orders<'a>>) {
        let orders = orders.into();
        if orders.look_into_tls() {
            let certificate = self.carrier.certificate(name).await.unwrap();
            let trusting = self.trusting.lock().unwrap()[name].clone();
            trusting.trust(&certificate).await.unwrap();
        }
        self.carrier.set_policy(name, orders).await.unwrap();
    }

    /// Ends the egress process, as an order to it does.
    pub fn end_host(&self) {
        self.host.lock().unwrap().cancel();
    }

    /// Begins another one.
    pub fn begin_host(&self) {
        let host = self.stop.child_token();
        let dir = self.dir.path().join("egress");
        begin(&self.tasks, dir, self.resolver.clone(), host.clone());
        *self.host.lock().unwrap() = host;
    }

    /// A server on that address and port which answers what `answer` makes of the first bytes that come, and
    /// then closes.
    pub fn serve(&self, ip: &str, port: u16, answer: fn(&[u8]) -> Vec<u8>) -> Server {
        self.server(ip, port, move |mut stream, seen| {
            let mut buffer = vec![0; 65_536];
            let length = stream.read(&mut buffer).unwrap_or(0);
            seen.lock().unwrap().extend_from_slice(&buffer[..length]);
            // One that went away has had its answer.
            let _ = stream.write_all(&answer(&buffer[..length]));
        })
    }

    /// A server that does `with` each connection, on a thread each.
    pub fn server(
        &self,
        ip: &str,
        port: u16,
        with: impl Fn(TcpStream, &Arc<Mutex<Vec<u8>>>) + Send + Sync + 'static,
    ) -> Server {
        let server = Server::default();
        let address = SocketAddr::new(ip.parse().unwrap(), port);
        let listener = self.among_servers(move || TcpListener::bind(address).unwrap());
        let (with, of) = (Arc::new(with), server.clone());
        // Ends with the process: it waits for connections as long as the test runs.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                of.connections.fetch_add(1, Ordering::SeqCst);
                let (with, of) = (with.clone(), of.clone());
                std::thread::spawn(move || with(stream, &of.seen));
            }
        });
        server
    }

    /// What `make` makes in the namespace of the servers.
    pub fn among_servers<T: Send + 'static>(&self, make: impl FnOnce() -> T + Send + 'static) -> T {
        let servers = self.servers.try_clone().unwrap();
        let making = std::thread::spawn(move || {
            enter(&servers);
            make()
        });
        making.join().unwrap()
    }

    /// The records of the audit that `is` true of, once there is one.
    pub async fn recorded(&self, what: &str, is: impl Fn(&Record) -> bool) -> Record {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let all = self.audit();
            if let Some(found) = all.iter().find(|record| is(record)) {
                return found.clone();
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "no record that {what} among {all:#?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// That it was denied by that rule, as the audit has it.
    pub async fn denied(&self, name_or_address: &str, rule: &str) -> Record {
        let what = format!("denies {name_or_address} by {rule}");
        self.recorded(&what, |record| {
            let of = record.name.as_deref() == Some(name_or_address)
                || record.address.map(|ip| ip.to_string()).as_deref() == Some(name_or_address);
            of && record.action == Action::Denied && record.rule == rule
        })
        .await
    }

    /// All that is recorded so far.
    pub fn audit(&self) -> Vec<Record> {
        let path = self.dir.path().join("egress").join(egress::host::AUDIT);
        let (records, _) = egress::audit::read(&path, 0, 10_000).unwrap();
        records.into_iter().map(|(_, record)| record).collect()
    }
}

fn begin(tasks: &TaskTracker, dir: PathBuf, resolver: dial::Resolver, stop: CancellationToken) {
    let settings = Settings {
        dir,
        clock: now,
        resolver,
        trust: egress::intercept::Trust::only(ROOT.pem().as_bytes(), Some(revoked().as_bytes()))
            .unwrap(),
        stop,
    };
    tasks.spawn(async move { serve(settings).await.unwrap() });
}

/// The time: programs in a sandbox hold the certificates that they are shown against theirs.
fn now() -> contract::time::Micros {
    #[allow(clippy::disallowed_methods)]
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    contract::time::Micros(since.as_micros().try_into().unwrap())
}

/// What a server has seen.
#[derive(Clone, Default)]
pub struct Server {
    pub connections: Arc<AtomicUsize>,
    pub seen: Arc<Mutex<Vec<u8>>>,
}

impl Server {
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }
}

/// Waits for a condition.
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "never happened: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An answer of HTTP.
pub fn hello(_: &[u8]) -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n".to_vec()
}

/// The bytes themselves.
pub fn echo(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

#[derive(Debug)]
struct Carried {
    carrier: Carrier,
    policy: Arc<Mutex<PolicyFile>>,
    credentials: Arc<Mutex<CredentialsFile>>,
    trusting: Arc<Mutex<HashMap<String, Trusting>>>,
}

#[async_trait::async_trait]
impl Network for Carried {
    async fn attach(&self, id: &SandboxId, ends: Ends) -> Result<(), sandbox::Error> {
        let trusting = ends.trusting;
        let ends = [ends.pid_one, ends.tcp, ends.dns, ends.line];
        let credentials = self.credentials.lock().unwrap().clone();
        let policy = self.policy.lock().unwrap().clone();
        let orders = Orders {
            policy: &policy,
            credentials: &credentials,
        };
        let attached = self.carrier.attach(id.as_str(), None, ends, orders).await;
        attached.unwrap();
        if orders.look_into_tls() {
            let certificate = self.carrier.certificate(id.as_str()).await.unwrap();
            trusting.trust(&certificate).await.unwrap();
        }
        let mut all = self.trusting.lock().unwrap();
        all.insert(id.to_string(), trusting);
        Ok(())
    }

    /// Each placeholder, as `P` and its number.
    async fn variables(&self, _: &SandboxId) -> Result<Vec<(String, String)>, sandbox::Error> {
        let credentials = self.credentials.lock().unwrap();
        let each = (1..).zip(&credentials.credentials);
        Ok(each
            .map(|(number, one)| (format!("P{number}"), one.placeholder.clone()))
            .collect())
    }

    fn gone(&self, id: &SandboxId) {
        self.trusting.lock().unwrap().remove(id.as_str());
        self.carrier.gone(id.as_str());
    }
}

/// What a command prints, whatever becomes of it.
pub async fn run(sandbox: &Arc<dyn Sandbox>, command: &str) -> String {
    let call = ToolCall {
        name: Tool::Bash,
        input: json!({ "command": command }),
        caller: None,
    };
    let output = sandbox.tool(call, CancellationToken::new()).await.unwrap();
    match output.content.as_slice() {
        [Content::Text { text }] => text.trim().to_owned(),
        other => panic!("not one text: {other:?}"),
    }
}

/// What Python programs begin with. `tcp(host, port, send)` says what came back, or the name of the errno.
pub const PRELUDE: &str = "import errno, os, select, socket, ssl, struct, sys, time\n\
    def tried(action):\n    \
        try: return action()\n    \
        except socket.gaierror as e: return 'EAI %d' % e.errno\n    \
        except ssl.SSLError as e: return e.reason\n    \
        except OSError as e: return errno.errorcode.get(e.errno, str(e))\n\
    def told(s):\n    \
        got = b''\n    \
        while True:\n        \
            part = s.recv(65536)\n        \
            if not part: return got.decode('latin1')\n        \
            got += part\n\
    def tcp(host, port, send=b''):\n    \
        def go():\n        \
            s = socket.create_connection((host, port), timeout=20)\n        \
            s.sendall(send)\n        \
            return told(s)\n    \
        return tried(go)\n\
    def http(host, port=80, path='/', name=None, more=''):\n    \
        return tcp(host, port, ('GET %s HTTP/1.1\\r\\nHost: %s\\r\\n%s\\r\\n' % (path, name or host, more)).encode())\n\
    def tls(host, port=443, name=None, send=b'hello'):\n    \
        def go():\n        \
            c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT); c.check_hostname = False; c.verify_mode = ssl.CERT_NONE\n        \
            s = c.wrap_socket(socket.create_connection((host, port), timeout=20), server_hostname=name or host)\n        \
            s.sendall(send)\n        \
            return s.recv(65536).decode('latin1')\n    \
        return tried(go)\n";

/// What a Python program in the sandbox prints, after [`PRELUDE`].
pub async fn python(sandbox: &Arc<dyn Sandbox>, program: &str) -> String {
    let call = ToolCall {
        name: Tool::Write,
        input: json!({ "file_path": "/tmp/attack.py", "content": format!("{PRELUDE}{program}") }),
        caller: None,
    };
    let written = sandbox.tool(call, CancellationToken::new()).await.unwrap();
    assert!(!written.is_error, "{written:?}");
    run(sandbox, "/usr/bin/python3 /tmp/attack.py").await
}
