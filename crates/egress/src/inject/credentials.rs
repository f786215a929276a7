//! The credentials of one sandbox, as they are handed over and as they are asked for. It opens none.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use contract::ids::CredentialId;
use contract::limits::SECRET_BYTES;
use contract::secret::Secret;
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use vault::Lent;
use vault::placeholder::{Covered, Placeholder};
use vault::scrub::Needles;

use super::certificate;
use super::spending::Denied;
use super::template::Template;
use crate::name::{HostPattern, Target};

/// Bytes of what is lent of one: three secrets at their longest, each byte of which JSON may write as six, and what seals
/// them.
const LENT: usize = 3 * 6 * SECRET_BYTES + 1_024;

/// The credentials of a sandbox, as the egress process is told of them beside its policy.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialsFile {
    /// Whether they may go over connections in clear text, which only the operator allows.
    pub cleartext: bool,
    /// Each of them.
    pub credentials: Vec<CredentialFile>,
}

/// A credential that programs of the sandbox know as a placeholder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialFile {
    /// Its id.
    pub id: CredentialId,
    /// What stands in the sandbox in its place.
    pub placeholder: String,
    /// The hosts that it is for, as names, addresses of IPv4 or `*.suffix`; none if it is for whatever the sandbox
    /// may reach.
    pub hosts: Option<Vec<String>>,
    /// Whether it is put into headers and queries.
    pub header: bool,
    /// Whether it is put into bodies.
    pub body: bool,
    /// Where the operator wants it in every request to its hosts, which no program need ask for. Its placeholder is
    /// nobody's then, and takes the secret's place in answers only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
    /// Whether the server may have another one when the one that was lent is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub renewable: bool,
    /// The secret, sealed, with what opens it; none if nothing opens it.
    pub lent: Option<Lent>,
}

impl CredentialsFile {
    /// Whether the egress process can take it.
    ///
    /// # Errors
    /// One line that names the credential.
    pub fn check(self) -> Result<(), String> {
        Credentials::read(self).map(drop)
    }
}

/// The credentials of one sandbox.
pub(crate) struct Credentials {
    pub(super) cleartext: bool,
    pub(super) all: Vec<Credential>,
    pub(super) by: HashMap<Placeholder, usize>,
    /// All placeholders, as they are: to find them.
    pub(super) watched: Covered,
}

pub(super) struct Credential {
    pub(super) id: CredentialId,
    pub(super) placeholder: Placeholder,
    hosts: Hosts,
    pub(super) header: bool,
    pub(super) body: bool,
    pub(super) template: Option<Template>,
    pub(super) renewable: bool,
    pub(super) lent: Option<Lent>,
    /// It is open while a request is under way that it covers.
    open: Mutex<Weak<Opened>>,
}

/// A credential that is open. All requests under way that it covers share it, since each of them would hold many times the
/// secret else; it is gone with the last of them.
pub(super) struct Opened {
    /// None if nothing opens it.
    pub(super) secret: Option<Arc<Secret>>,
    needles: OnceLock<Option<Arc<Needles>>>,
}

impl Opened {
    /// What finds it in an answer; none if it is not looked for.
    pub(super) fn needles(&self, placeholder: Placeholder) -> Option<Arc<Needles>> {
        let make = || Needles::of(self.secret.as_ref()?, placeholder).map(Arc::new);
        self.needles.get_or_init(make).clone()
    }
}

impl Credential {
    /// Opens it, unless it is open.
    pub(super) fn open(&self) -> Arc<Opened> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = open.upgrade() {
            return opened;
        }
        let secret = self.lent.as_ref().and_then(|lent| lent.open().ok());
        let opened = Arc::new(Opened {
            secret: secret.map(|secret| Arc::new(secret.token)),
            needles: OnceLock::new(),
        });
        *open = Arc::downgrade(&opened);
        opened
    }
}

/// The hosts that a credential is for.
enum Hosts {
    Every,
    These(Vec<HostPattern>, Vec<IpAddr>),
}

impl Credentials {
    /// There are none.
    pub(crate) fn none() -> Self {
        Self {
            cleartext: false,
            all: Vec::new(),
            by: HashMap::new(),
            watched: Covered::nothing(),
        }
    }

    /// Reads what was handed over.
    ///
    /// # Errors
    /// One line that names the credential. There are none then.
    pub(crate) fn read(file: CredentialsFile) -> Result<Self, String> {
        let mut read = Self {
            cleartext: file.cleartext,
            ..Self::none()
        };
        for one in file.credentials {
            let wrong = |what: &str| format!("credential {}: {what}", one.id);
            if one.lent.as_ref().is_some_and(|lent| lent.len() > LENT) {
                return Err(wrong("its secret is too long"));
            }
            let placeholder = Placeholder::parse(&one.placeholder);
            let placeholder = placeholder.ok_or_else(|| wrong("its placeholder is none"))?;
            let hosts = match one.hosts {
                None => Hosts::Every,
                Some(hosts) => {
                    Hosts::read(&hosts).map_err(|host| wrong(&format!("{host:?} is no host")))?
                }
            };
            match &one.template {
                // One that cannot be opened goes nowhere.
                Some(template) if one.lent.is_some() => {
                    template.check().map_err(|problem| wrong(&problem))?;
                }
                Some(_) => {}
                None => {
                    read.by.insert(placeholder, read.all.len());
                    read.watched.watch(placeholder);
                }
            }
            read.all.push(Credential {
                id: one.id,
                placeholder,
                hosts,
                header: one.header,
                body: one.body,
                template: one.template,
                renewable: one.renewable,
                lent: one.lent,
                open: Mutex::default(),
            });
        }
        Ok(read)
    }

    /// Whether any of them is for that host: what is said to it has to be seen.
    pub(crate) fn cover(&self, target: &Target) -> bool {
        self.all.iter().any(|one| one.hosts.have(target))
    }

    /// Whether any of them may be put into a body for that host.
    pub(crate) fn cover_bodies(&self, target: &Target) -> bool {
        let is = |one: &Credential| one.body && one.hosts.have(target);
        self.all.iter().any(is)
    }

    /// Whether what is put into a request to that host may be renewed when it is refused.
    pub(crate) fn may_renew(&self, target: &Target) -> bool {
        let may = |one: &Credential| one.renewable && one.hosts.have(target);
        self.all.iter().any(may)
    }

    /// The certificate that the operator wants that host to be shown, the first of several; none if there is none.
    ///
    /// # Errors
    /// [`Denied`]: it cannot be had.
    pub(crate) fn certificate(&self, target: &Target) -> Result<Option<CertifiedKey>, Denied> {
        for one in self.all.iter().filter(|one| one.hosts.have(target)) {
            let Some(Template::Certificate { chain }) = &one.template else {
                continue;
            };
            let opened = one.lent.as_ref().and_then(|lent| lent.open().ok());
            let opened = opened.ok_or_else(|| Denied::unopened(one.id))?;
            let certified = certificate::certified(chain, &opened.token);
            let unusable = |why| Denied(format!("credential {}: {why}", one.id));
            return certified.map(Some).map_err(unusable);
        }
        Ok(None)
    }

    /// Those that are for that host, by their places.
    pub(super) fn covering(&self, target: &Target) -> Vec<usize> {
        let covering = self.all.iter().enumerate();
        covering
            .filter(|(_, one)| one.hosts.have(target))
            .map(|(place, _)| place)
            .collect()
    }
}

impl Hosts {
    fn read(texts: &[String]) -> Result<Self, &String> {
        let (mut patterns, mut addresses) = (Vec::new(), Vec::new());
        for text in texts {
            match (text.parse::<IpAddr>(), HostPattern::parse(text)) {
                (Ok(address), _) => addresses.push(address),
                (Err(_), Ok(pattern)) => patterns.push(pattern),
                (Err(_), Err(_)) => return Err(text),
            }
        }
        Ok(Self::These(patterns, addresses))
    }

    fn have(&self, target: &Target) -> bool {
        match (self, target) {
            (Self::Every, _) => true,
            (Self::These(patterns, _), Target::Name(name)) => {
                patterns.iter().any(|pattern| pattern.covers(name))
            }
            (Self::These(_, addresses), Target::Address(ip)) => addresses.contains(ip),
        }
    }
}
