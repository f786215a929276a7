//! What an attack needs on the host: something of the host's that a sandbox must not reach. All of it goes
//! with the value that holds it.

use std::any::Any;
use std::fs::{File, Permissions, set_permissions};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;

use rustix::io::{FdFlags, fcntl_setfd};
use sandbox::{Sandbox, Tool};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::support::{Host, call, host, ok};

/// What is made ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Nothing,
    /// A file of the server's: `{secret}`.
    Secret,
    /// A file in the workspace of another sandbox: `{secret}`.
    Neighbour,
    /// A server on a Unix socket of the host: `{socket}`.
    Socket,
    /// One at an abstract address: `{name}`.
    Abstract,
    /// One on the host's loopback: `{port}`.
    Port,
    /// A process of the host: `{pid}`.
    Process,
    /// A segment of shared memory that everybody may read: `{segment}`.
    Segment,
    /// A file that is open in the server and would be inherited.
    Open,
    /// A program in the workspace that is set-id.
    SetId,
    /// Writes of the file tools to a place where a directory and a link are exchanged all the time.
    Race,
    /// Copies out of a directory that is exchanged all the time for a link to what the kernel shows of the hand;
    /// `got` in the workspace says that one of them had it.
    CopyOut,
}

/// What was made ready, and its values.
pub struct Outside {
    values: Value,
    _kept: Vec<Box<dyn Any>>,
}

/// Ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Segment(String);

impl Drop for Segment {
    fn drop(&mut self) {
        let _ = Command::new("ipcrm").args(["-m", &self.0]).status();
    }
}

impl Outside {
    pub async fn prepare(stage: Stage) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // As the server's own directories are.
        set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        let mut kept: Vec<Box<dyn Any>> = Vec::new();
        let path = dir.path().join("secret");
        let values = match stage {
            Stage::Nothing | Stage::SetId | Stage::Race | Stage::CopyOut => json!({}),
            Stage::Secret | Stage::Open => {
                std::fs::write(&path, "secret").unwrap();
                json!({"secret": path})
            }
            Stage::Neighbour => {
                let host: Host = host();
                let neighbour = host.attach("neighbour").await;
                ok(&neighbour, "echo -n secret > f").await;
                let values = json!({"secret": host.path("sandboxes/neighbour/workspace/f")});
                kept.push(Box::new((neighbour, host)));
                values
            }
            Stage::Socket => {
                kept.push(Box::new(UnixListener::bind(&path).unwrap()));
                json!({"socket": path})
            }
            Stage::Abstract => {
                let name = format!("corpus-{}", std::process::id());
                let address = SocketAddr::from_abstract_name(&name).unwrap();
                kept.push(Box::new(UnixListener::bind_addr(&address).unwrap()));
                json!({"name": name})
            }
            Stage::Port => {
                let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                let port = listener.local_addr().unwrap().port();
                kept.push(Box::new(listener));
                json!({"port": port})
            }
            Stage::Process => {
                let process = Command::new("sleep").arg("1000").spawn().unwrap();
                let pid = process.id();
                kept.push(Box::new(Running(process)));
                json!({"pid": pid})
            }
            Stage::Segment => {
                let made = Command::new("ipcmk")
                    .args(["-M", "4096", "-p", "0666"])
                    .output();
                let said = String::from_utf8(made.unwrap().stdout).unwrap();
                let id = said.trim().rsplit(' ').next().unwrap().to_owned();
                kept.push(Box::new(Segment(id.clone())));
                json!({"segment": id})
            }
        };
        kept.push(Box::new(dir));
        Self {
            values,
            _kept: kept,
        }
    }

    pub fn values(&self) -> &Value {
        &self.values
    }

    pub fn fill(&self, text: &str) -> String {
        fill(text, &self.values)
    }
}

impl Stage {
    /// In the process that attaches the sandbox, before it does.
    pub fn before(self, values: &Value) -> Option<File> {
        (self == Self::Open).then(|| {
            let file = File::open(values["secret"].as_str().unwrap()).unwrap();
            fcntl_setfd(&file, FdFlags::empty()).unwrap();
            file
        })
    }

    /// When the sandbox runs; `dir` is its directory on the host.
    pub async fn inside(self, sandbox: &Arc<dyn Sandbox>, dir: &Path) {
        match self {
            Self::SetId => {
                let program = dir.join("workspace/id");
                std::fs::copy("/usr/bin/id", &program).unwrap();
                set_permissions(&program, Permissions::from_mode(0o4755)).unwrap();
            }
            Self::Race => race(sandbox).await,
            Self::CopyOut => copy_out(sandbox).await,
            _ => {}
        }
    }
}

/// How often a file is written while directory and link change places.
const WRITES: usize = 200;

async fn copy_out(sandbox: &Arc<dyn Sandbox>) {
    ok(sandbox, "mkdir d; echo mine > d/maps; ln -s /proc/self l").await;
    let _exchange = exchange(sandbox).await;
    for _ in 0..WRITES {
        let mut got = Vec::new();
        if let Ok(mut download) = sandbox.read("d/maps", 0).await {
            while let Ok(Some(piece)) = download.next().await {
                got.extend_from_slice(&piece);
            }
        }
        if got.windows(7).any(|text| text == b"[stack]") {
            ok(sandbox, "touch /workspace/got").await;
            return;
        }
    }
}

async fn race(sandbox: &Arc<dyn Sandbox>) {
    ok(sandbox, "mkdir d /root/outside; ln -s /root/outside l").await;
    let _exchange = exchange(sandbox).await;
    for _ in 0..WRITES {
        let input = json!({"file_path": "d/f", "content": "owned"});
        call(sandbox, Tool::Write, input).await;
    }
}

/// Exchanges `d` and `l` all the time, until it is dropped.
async fn exchange(sandbox: &Arc<dyn Sandbox>) -> sandbox::Process {
    let program = "import ctypes\n\
        libc = ctypes.CDLL(None); print('ready', flush=True)\n\
        while True: libc.renameat2(-100, b'd', -100, b'l', 2)\n";
    let exchange = sandbox::Command::new(["/usr/bin/python3", "-c", program]);
    let mut exchange = sandbox.spawn(exchange).await.unwrap();
    let mut said = [0; 6];
    let mut stdout = exchange.stdout.take().unwrap();
    stdout.read_exact(&mut said).await.unwrap();
    exchange
}

/// Puts the values of a stage into an attack, and the host's name, which has no other place.
pub fn fill(text: &str, values: &Value) -> String {
    let mut text = text.to_owned();
    for (name, value) in values.as_object().into_iter().flatten() {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        text = text.replace(&format!("{{{name}}}"), &value);
    }
    let name = rustix::system::uname();
    text.replace("{hostname}", &name.nodename().to_string_lossy())
}
