//! Owns which kernel a sandbox gets: the host's, or gVisor's, by what was asked for, remembered and set. It starts
//! neither.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jail::plan;
use rustix::io::Errno;

use super::{Shared, kept};
use crate::error::{Doing, Error};
use crate::provider::{Finding, ProviderName};

/// What mends a host without it.
const CURE: &str = "apt install runsc";

/// gVisor on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gvisor {
    /// Its `runsc`, a static program.
    pub program: PathBuf,
    /// By what it catches system calls, as its option `--platform` names it; none: as it likes best itself.
    pub platform: Option<String>,
}

impl Default for Gvisor {
    fn default() -> Self {
        Self {
            program: PathBuf::from("/usr/bin/runsc"),
            platform: None,
        }
    }
}

impl Gvisor {
    /// Looks whether it is there.
    fn check(&self) -> Result<(), Error> {
        let executable =
            |found: fs::Metadata| found.is_file() && found.permissions().mode() & 0o111 != 0;
        let errno = match fs::metadata(&self.program).map(executable) {
            Ok(true) => return Ok(()),
            Ok(false) => Errno::ACCESS.raw_os_error(),
            Err(error) => error.raw_os_error().unwrap_or_default(),
        };
        Err(Error::Unsupported {
            step: format!("start {}, which gVisor needs", self.program.display()),
            errno,
            hint: CURE.to_owned(),
        })
    }

    /// What it says of itself, in a line. Blocks.
    fn version(&self) -> io::Result<String> {
        let mut asked = Command::new(&self.program);
        asked.arg("--version").env_clear().stdin(Stdio::null());
        let said = asked.output()?;
        let said = String::from_utf8_lossy(&said.stdout);
        Ok(said.lines().next().unwrap_or_default().to_owned())
    }

    fn planned(&self) -> plan::Gvisor {
        plan::Gvisor {
            program: self.program.clone(),
            platform: self.platform.clone(),
        }
    }
}

impl Shared {
    /// Whether sandboxes of that kind can be made here, and are.
    pub(super) fn makes(&self, maker: ProviderName) -> Result<(), Error> {
        match maker {
            ProviderName::Local if self.own_kernels_only => Err(Error::invalid(
                "this server makes only sandboxes with a kernel of their own (`sandbox.require_isolation`)",
            )),
            ProviderName::Local => Ok(()),
            ProviderName::Gvisor if !self.own_ids => Err(Error::Unsupported {
                step: "give gVisor user ids of its own".to_owned(),
                errno: 0,
                hint: "run the server as root, or as a service with CAP_SYS_ADMIN, CAP_SETUID and CAP_SETGID"
                    .to_owned(),
            }),
            ProviderName::Gvisor => self.gvisor.check(),
        }
    }

    /// gVisor, if it is what the sandbox in `dir` gets at this start: as it is asked for now, or was the last time that
    /// somebody said so, or as the operator set it. What is asked for is remembered. Blocks.
    pub(super) fn gvisor_for(
        &self,
        dir: &Path,
        asked: Option<ProviderName>,
    ) -> Result<Option<plan::Gvisor>, Error> {
        let maker = match asked {
            None => recall(dir)?.unwrap_or(self.maker),
            Some(asked) => asked,
        };
        self.makes(maker)?;
        if let Some(asked) = asked {
            remember(dir, asked)?;
        }
        Ok((maker == ProviderName::Gvisor).then(|| self.gvisor.planned()))
    }

    /// For `doctor`. Blocks.
    pub(super) fn gvisor_finding(&self) -> Finding {
        let required = self.maker == ProviderName::Gvisor;
        let there = self.makes(ProviderName::Gvisor);
        let version = there.and_then(|()| {
            let doing = || format!("ask {} for its version", self.gvisor.program.display());
            self.gvisor.version().doing(doing)
        });
        let (ok, detail) = match version {
            Ok(version) => (true, version),
            // Nobody misses what nobody asks for.
            Err(error) => (!required, format!("not to be had: {error}")),
        };
        Finding {
            what: "gVisor, for `sandbox.provider = \"gvisor\"`".to_owned(),
            ok,
            required,
            detail,
            mend: if ok { String::new() } else { CURE.to_owned() },
        }
    }
}

/// Remembers that somebody chose it for the sandbox in `dir`, whatever can be read of an earlier choice.
pub(super) fn remember(dir: &Path, maker: ProviderName) -> Result<(), Error> {
    if recall(dir).is_ok_and(|found| found == Some(maker)) {
        return Ok(());
    }
    let kept = kept::keep(dir, kept::PROVIDER, maker.name().as_bytes());
    kept.doing(|| "remember the provider of a sandbox".to_owned())
}

/// A fork has what its parent was given.
pub(super) fn inherit(parent: &Path, fork: &Path) -> io::Result<()> {
    match kept::find(parent, kept::PROVIDER)? {
        Some(maker) => kept::keep(fork, kept::PROVIDER, &maker),
        None => Ok(()),
    }
}

/// What cannot be read, as a power cut may leave it, is not taken for the weaker one.
fn recall(dir: &Path) -> Result<Option<ProviderName>, Error> {
    let doing = || "read the provider of a sandbox".to_owned();
    let Some(bytes) = kept::find(dir, kept::PROVIDER).doing(doing)? else {
        return Ok(None);
    };
    let name = String::from_utf8_lossy(&bytes);
    let maker = name.parse().map_err(io::Error::other).doing(doing)?;
    Ok(Some(maker))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_chosen_is_remembered_and_inherited_and_nonsense_is_an_error_until_somebody_chooses()
    {
        let dir = tempfile::tempdir().unwrap();
        let (parent, fork) = (dir.path().join("a"), dir.path().join("b"));
        for place in [&parent, &fork] {
            fs::create_dir(place).unwrap();
        }
        assert_eq!(recall(&parent).unwrap(), None);
        inherit(&parent, &fork).unwrap();
        assert_eq!(recall(&fork).unwrap(), None);
        remember(&parent, ProviderName::Gvisor).unwrap();
        inherit(&parent, &fork).unwrap();
        assert_eq!(recall(&fork).unwrap(), Some(ProviderName::Gvisor));
        remember(&fork, ProviderName::Local).unwrap();
        assert_eq!(recall(&fork).unwrap(), Some(ProviderName::Local));
        assert_eq!(recall(&parent).unwrap(), Some(ProviderName::Gvisor));
        for nonsense in ["", "firecracker"] {
            fs::write(parent.join(kept::PROVIDER), nonsense).unwrap();
            assert!(recall(&parent).is_err());
        }
        remember(&parent, ProviderName::Local).unwrap();
        assert_eq!(recall(&parent).unwrap(), Some(ProviderName::Local));
    }

    #[test]
    fn a_host_without_runsc_is_told_the_cure() {
        let gvisor = Gvisor {
            program: PathBuf::from("/nowhere/runsc"),
            platform: None,
        };
        let refused = gvisor.check().unwrap_err().to_string();
        assert!(refused.contains("/nowhere/runsc"), "{refused}");
        assert!(refused.contains("apt install runsc"), "{refused}");
    }
}
