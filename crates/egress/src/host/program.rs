//! How a server starts its egress process. It gives it nothing of its own but where the roots of TLS are.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::{Child, Command};

/// Variables that say where this host keeps the roots that it trusts (OpenSSL's names).
const ROOTS: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// How the egress process is started.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its directory, which exists and is this user's alone.
    pub dir: PathBuf,
    /// The executable.
    pub path: PathBuf,
    /// What makes it the egress process of that directory.
    pub arguments: Vec<OsString>,
}

impl Program {
    /// Starts it.
    ///
    /// # Errors
    /// As of execve(2).
    pub(super) fn spawn(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            // The server's variables may hold keys that are none of its business; where the roots of TLS are is.
            .env_clear()
            .envs(
                ROOTS
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // A signal from the terminal is for the server.
            .process_group(0);
        command.spawn()
    }
}
