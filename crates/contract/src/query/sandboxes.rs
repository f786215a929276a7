//! Queries of `/v1/x/sandboxes`: Longhand's own, read as strictly as the contract's.

use super::Pairs;
use crate::parse::Invalid;

/// A path in a sandbox, and what is to be done there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxPath {
    /// Absolute, or below the workspace.
    pub path: String,
    /// A directory with all that is in it.
    pub all: bool,
    /// Permissions as in chmod; absent: as they were.
    pub mode: Option<u32>,
}

impl SandboxPath {
    /// `GET …/files` and `GET …/content`: `path`.
    ///
    /// # Errors
    /// As every query's.
    pub fn parse_look(query: &str) -> Result<Self, Invalid> {
        let mut pairs = Pairs::read(query)?;
        let path = pairs.text("path")?;
        pairs.finish()?;
        Self::at(path, false, None)
    }

    /// `DELETE …/files`: `path` and `all`.
    ///
    /// # Errors
    /// As every query's.
    pub fn parse_remove(query: &str) -> Result<Self, Invalid> {
        let mut pairs = Pairs::read(query)?;
        let path = pairs.text("path")?;
        let all = pairs.boolean("all")?.unwrap_or(false);
        pairs.finish()?;
        Self::at(path, all, None)
    }

    /// `GET …/files/watch`: `path` and `deep`.
    ///
    /// # Errors
    /// As every query's.
    pub fn parse_watch(query: &str) -> Result<Self, Invalid> {
        let mut pairs = Pairs::read(query)?;
        let path = pairs.text("path")?;
        let deep = pairs.boolean("deep")?.unwrap_or(false);
        pairs.finish()?;
        Self::at(path, deep, None)
    }

    /// `POST …/content`: `path` and `mode`.
    ///
    /// # Errors
    /// As every query's.
    pub fn parse_upload(query: &str) -> Result<Self, Invalid> {
        let mut pairs = Pairs::read(query)?;
        let path = pairs.text("path")?;
        let mode = pairs.text("mode")?.map(|text| octal(&text)).transpose()?;
        pairs.finish()?;
        Self::at(path, false, mode)
    }

    /// After everything else is read: a mistake in what is there is told before what is missing.
    fn at(path: Option<String>, all: bool, mode: Option<u32>) -> Result<Self, Invalid> {
        let path = path.filter(|path| !path.is_empty());
        let path = path.ok_or_else(|| Invalid::at("path", "is required"))?;
        Ok(Self { path, all, mode })
    }
}

/// `POST …/forward`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SandboxPort {
    /// Which, inside the sandbox.
    pub port: u16,
}

impl SandboxPort {
    /// Reads it.
    ///
    /// # Errors
    /// As every query's.
    pub fn parse(query: &str) -> Result<Self, Invalid> {
        let mut pairs = Pairs::read(query)?;
        let port = pairs.number("port", (1, u32::from(u16::MAX)))?;
        pairs.finish()?;
        let port = port.and_then(|port| u16::try_from(port).ok());
        let port = port.ok_or_else(|| Invalid::at("port", "is required"))?;
        Ok(Self { port })
    }
}

/// `GET …/exec/{exec_id}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SandboxOutput {
    /// The first byte of standard output that is wanted.
    pub stdout_from: u64,
    /// And of standard error.
    pub stderr_from: u64,
    /// Whether the outputs are to come in base64, so that nothing in them is replaced.
    pub base64: bool,
}

impl SandboxOutput {
    /// Reads it.
    ///
    /// # Errors
    /// As every query's.
    pub fn parse(query: &str) -> Result<Self, Invalid> {
        let mut pairs = Pairs::read(query)?;
        let [stdout, stderr] = ["stdout_from", "stderr_from"].map(|name| {
            let Some(text) = pairs.text(name)? else {
                return Ok(0);
            };
            let from = text.parse();
            from.map_err(|_| Invalid::at(name, "must be a number of bytes"))
        });
        let base64 = pairs.boolean("base64")?.unwrap_or(false);
        let asked = Self {
            stdout_from: stdout?,
            stderr_from: stderr?,
            base64,
        };
        pairs.finish()?;
        Ok(asked)
    }
}

/// `DELETE /v1/x/volumes/{volume_id}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveVolume {
    /// Also one that sandboxes have that do not run.
    pub force: bool,
}

query!(RemoveVolume, pairs => Self {
    force: pairs.boolean("force")?.unwrap_or(false),
});

fn octal(text: &str) -> Result<u32, Invalid> {
    let digits = (3..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8).ok().filter(|_| digits);
    mode.ok_or_else(|| Invalid::at("mode", "must be three or four octal digits, as 0644"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_required_and_permissions_are_octal() {
        let upload = SandboxPath::parse_upload("path=%2Ftmp%2Fa%20b&mode=0755").unwrap();
        assert_eq!(
            (upload.path.as_str(), upload.mode),
            ("/tmp/a b", Some(0o755))
        );
        for bad in [
            "",
            "path=",
            "path=a&mode=9",
            "path=a&mode=0888",
            "path=a&all=true",
        ] {
            assert!(SandboxPath::parse_upload(bad).is_err(), "{bad}");
        }
        assert!(SandboxPath::parse_remove("path=a&all=true").unwrap().all);
        assert!(SandboxPath::parse_watch("path=a&deep=true").unwrap().all);
        assert!(SandboxPath::parse_watch("path=a&all=true").is_err());
        assert!(SandboxPath::parse_look("path=a&mode=644").is_err());
        for bad in ["", "port=0", "port=65536", "port=x"] {
            assert!(SandboxPort::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(SandboxPort::parse("port=8080").unwrap().port, 8080);
        for bad in ["stdout_from=-1", "stderr_from=x", "base64=2", "from=1"] {
            assert!(SandboxOutput::parse(bad).is_err(), "{bad}");
        }
        let asked = SandboxOutput::parse("stdout_from=5000000000&base64=true").unwrap();
        assert_eq!((asked.stdout_from, asked.stderr_from), (5_000_000_000, 0));
        assert!(asked.base64);
        assert!(RemoveVolume::parse("force=true").unwrap().force);
        assert!(!RemoveVolume::parse("").unwrap().force);
        assert!(RemoveVolume::parse("force=1").is_err());
    }
}
