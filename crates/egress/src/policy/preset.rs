//! Lists of hosts that we keep for people: registries of packages and GitHub. Only hosts stand here that
//! serve content a client of that ecosystem asks for; none of a general cloud storage.

use serde::{Deserialize, Serialize};

/// A list of hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // each is the ecosystem of its name
pub enum Preset {
    Npm,
    Pypi,
    Crates,
    Debian,
    Golang,
    Rubygems,
    Github,
}

/// What the contract's `allow_package_managers` covers: the managers of an environment's `packages`.
pub(crate) const PACKAGE_MANAGERS: [Preset; 6] = [
    Preset::Npm,
    Preset::Pypi,
    Preset::Crates,
    Preset::Debian,
    Preset::Golang,
    Preset::Rubygems,
];

impl Preset {
    /// As it is written in a policy.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pypi => "pypi",
            Self::Crates => "crates",
            Self::Debian => "debian",
            Self::Golang => "golang",
            Self::Rubygems => "rubygems",
            Self::Github => "github",
        }
    }

    /// Its hosts, as a rule names them.
    #[must_use]
    pub fn hosts(self) -> &'static [&'static str] {
        match self {
            Self::Npm => &["registry.npmjs.org", "registry.yarnpkg.com", "nodejs.org"],
            Self::Pypi => &["pypi.org", "files.pythonhosted.org", "pypi.python.org"],
            Self::Crates => &[
                "crates.io",
                "index.crates.io",
                "static.crates.io",
                "static.rust-lang.org",
            ],
            Self::Debian => &[
                "deb.debian.org",
                "security.debian.org",
                "ftp.debian.org",
                "archive.ubuntu.com",
                "security.ubuntu.com",
                "ports.ubuntu.com",
            ],
            Self::Golang => &[
                "proxy.golang.org",
                "sum.golang.org",
                "go.dev",
                "dl.google.com",
            ],
            Self::Rubygems => &["rubygems.org", "index.rubygems.org"],
            Self::Github => &[
                "github.com",
                "api.github.com",
                "codeload.github.com",
                "raw.githubusercontent.com",
                "objects.githubusercontent.com",
                "release-assets.githubusercontent.com",
                "media.githubusercontent.com",
            ],
        }
    }

    /// Its ports. Debian's archives are signed and asked for in clear text.
    #[must_use]
    pub fn ports(self) -> &'static [u16] {
        match self {
            Self::Debian => &[80, 443],
            Self::Npm
            | Self::Pypi
            | Self::Crates
            | Self::Golang
            | Self::Rubygems
            | Self::Github => &[443],
        }
    }
}
