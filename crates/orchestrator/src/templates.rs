//! Credentials of the operator's that no vault holds: a file with the secret, the hosts that it is for, and where it goes
//! in requests of every sandbox, or the certificate that it is the key of. The files are read when a sandbox is attached
//! and whenever they change; that of the secret must never be one that others may read.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use contract::ids::{SessionId, WorkspaceId};
use contract::limits::SECRET_BYTES;
use contract::secret::Secret;
use egress::inject::{CredentialFile, CredentialsFile, Template};
use vault::Vault;
use vault::secret::CredentialSecret;

/// One of them.
#[derive(Debug, Clone)]
pub struct OperatorCredential {
    /// What the operator calls it.
    pub name: String,
    /// The hosts that it is for, as names, addresses of IPv4 or `*.suffix`.
    pub hosts: Vec<String>,
    /// Where it goes.
    pub place: Place,
    /// The file with the secret; an end of line behind it is not part of it.
    pub secret_file: PathBuf,
}

/// Where a secret of the operator's goes.
#[derive(Debug, Clone)]
pub enum Place {
    /// Into requests.
    Request(Template),
    /// Nowhere: it is the key of the certificate in this file, which servers are shown.
    Certificate(PathBuf),
}

/// Bytes of a file with certificates: what handshakes take, with room.
const CERTIFICATES: u64 = 64 << 10;

/// What changes of a file when its content does: device, inode, time of change in nanoseconds, and length.
pub(crate) type Stamp = Option<(u64, u64, i64, i64, u64)>;

impl OperatorCredential {
    /// Whether it can be used.
    ///
    /// # Errors
    /// One line that names what is wrong, without the secret.
    pub fn check(&self) -> Result<(), String> {
        let named = |problem: String| format!("{:?}: {problem}", self.name);
        if self.hosts.is_empty() {
            return Err(named("it is for no host".to_owned()));
        }
        let (template, secret) = self.read().map_err(named)?;
        template.check().map_err(named)?;
        template.fits(&secret).map_err(named)?;
        let vault = Vault::with(&vault::master::MasterKey::from_bytes([0; 32]));
        let file = CredentialsFile {
            cleartext: false,
            credentials: vec![self.file(&vault, template, None)],
        };
        file.check().map_err(named)
    }

    /// As the egress process is told of it. One that cannot be read is for its hosts all the same: what is asked there
    /// is refused.
    pub(crate) fn given(&self, vault: &Vault) -> CredentialFile {
        let read = self.read().and_then(|(template, secret)| {
            // Of a certificate and its key one may have changed before the other.
            template.fits(&secret)?;
            Ok((template, CredentialSecret::token(secret)))
        });
        match read {
            Ok((template, secret)) => self.file(vault, template, Some(&secret)),
            Err(problem) => {
                tracing::error!(
                    credential = self.name,
                    problem,
                    "an operator's credential cannot be read"
                );
                let template = match &self.place {
                    Place::Request(template) => template.clone(),
                    Place::Certificate(_) => Template::Certificate {
                        chain: String::new(),
                    },
                };
                self.file(vault, template, None)
            }
        }
    }

    fn file(
        &self,
        vault: &Vault,
        template: Template,
        secret: Option<&CredentialSecret>,
    ) -> CredentialFile {
        let (workspace, id) = (WorkspaceId::Default, vault.named(&self.name));
        let lent = secret.and_then(|secret| {
            let sealed = vault.seal_credential(workspace, id, secret);
            vault.lend_credential(workspace, id, &sealed).ok()
        });
        CredentialFile {
            id,
            // Nobody is told of it: it stands where an answer repeats the secret.
            placeholder: vault
                .placeholder(SessionId::from_bits(0), id)
                .text()
                .to_owned(),
            hosts: Some(self.hosts.clone()),
            header: false,
            body: false,
            template: Some(template),
            renewable: false,
            lent,
        }
    }

    fn read(&self) -> Result<(Template, Secret), String> {
        let template = match &self.place {
            Place::Request(template) => template.clone(),
            Place::Certificate(path) => Template::Certificate {
                chain: certificates(path)?,
            },
        };
        Ok((template, self.secret()?))
    }

    fn secret(&self) -> Result<Secret, String> {
        let path = self.secret_file.display();
        let unread = |error: std::io::Error| format!("{path} cannot be read: {error}");
        let about = std::fs::metadata(&self.secret_file).map_err(unread)?;
        if about.mode() & 0o077 != 0 {
            let mode = about.mode() & 0o777;
            return Err(format!(
                "{path} may be read by others (mode {mode:o}): chmod 600 {path}"
            ));
        }
        if about.len() > SECRET_BYTES as u64 + 2 {
            return Err(format!("{path} is longer than {SECRET_BYTES} bytes"));
        }
        let mut text = std::fs::read_to_string(&self.secret_file).map_err(unread)?;
        for end in ['\n', '\r'] {
            if text.ends_with(end) {
                text.pop();
            }
        }
        if text.is_empty() {
            return Err(format!("{path} is empty"));
        }
        Ok(Secret::new(text))
    }

    /// What tells that one of its files has changed.
    pub(crate) fn stamp(&self) -> [Stamp; 2] {
        let certificates = match &self.place {
            Place::Request(_) => None,
            Place::Certificate(path) => stamp(path),
        };
        [stamp(&self.secret_file), certificates]
    }
}

fn stamp(path: &Path) -> Stamp {
    let about = std::fs::metadata(path).ok()?;
    let changed = (about.ctime(), about.ctime_nsec());
    Some((about.dev(), about.ino(), changed.0, changed.1, about.len()))
}

fn certificates(path: &Path) -> Result<String, String> {
    let named = path.display();
    let unread = |error: std::io::Error| format!("{named} cannot be read: {error}");
    let about = std::fs::metadata(path).map_err(unread)?;
    if about.len() > CERTIFICATES {
        return Err(format!("{named} is longer than {CERTIFICATES} bytes"));
    }
    std::fs::read_to_string(path).map_err(unread)
}
