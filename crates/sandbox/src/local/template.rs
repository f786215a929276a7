//! Owns what sandboxes lie on: the generated lowest layer of those on the host's `/usr` (directories, `/etc`, nothing
//! secret of the host), and what has to be known of templates that were imported. It never copies a file of the host that
//! is not readable by everybody, and never follows a link.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::dirs::private_dir;
use super::isolation::gives_own_ids;
use super::trust::{self, Store};
use crate::error::{Doing, Error};
use crate::limits::{TEMPLATE_FILE_BYTES, TEMPLATE_FILES};
use crate::template::trusted;
use crate::template::{Rooted, TemplateHome, TemplateId};

/// Changed whenever the code below makes another tree.
const FORMAT: u32 = 3;

/// Directories with their modes, parents first.
const DIRECTORIES: &[(&str, u32)] = &[
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("mnt", 0o755),
    ("mnt/session", 0o755),
    ("mnt/session/outputs", 0o755),
    ("mnt/session/uploads", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/spool", 0o755),
    ("var/tmp", 0o1777),
    ("workspace", 0o755),
];

/// What programs under `/usr` expect in `/etc`, by exact name. Nothing here is about this host.
const COPIED: &[&str] = &[
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "chromium.d",
    "crypto-policies",
    "debian_version",
    "fonts",
    "gai.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "mime.types",
    "os-release",
    "perl",
    "pki/ca-trust/extracted",
    "pki/tls/certs",
    "protocols",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
];

/// The same by the beginning of the name: versions differ.
const COPIED_PREFIXES: &[&str] = &["ImageMagick-", "java-", "php", "python3"];

/// Links at the root that a system with a merged `/usr` has.
const MERGED: &[&str] = &["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

const WRITTEN: &[(&str, &str)] = &[
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
         bin:x:2:2:bin:/bin:/usr/sbin/nologin\n_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n\
         user:x:1000:1000:user:/home:/bin/bash\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    (
        "etc/group",
        "root:x:0:\ndaemon:x:1:\nbin:x:2:\nadm:x:4:\ntty:x:5:\nmail:x:8:\nstaff:x:50:\n\
         user:x:1000:\nnogroup:x:65534:\n",
    ),
    (
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n",
    ),
    (
        "etc/hosts",
        "127.0.0.1 localhost sandbox\n::1 localhost ip6-localhost ip6-loopback\n",
    ),
    // Where nothing else lies: whatever address is asked, the egress process answers. Without one, nobody.
    (
        "etc/resolv.conf",
        "nameserver 198.19.255.53\noptions timeout:2 attempts:2\n",
    ),
    ("etc/hostname", "sandbox\n"),
    ("etc/shells", "/bin/sh\n/bin/bash\n"),
    ("etc/timezone", "Etc/UTC\n"),
    ("etc/profile", "umask 022\n"),
];

/// The templates of this host: the one made from its `/usr`, and those that were imported.
pub(super) struct Templates {
    dir: PathBuf,
    usr: PathBuf,
    home: TemplateHome,
    host: Mutex<Option<Arc<Base>>>,
    /// Those that were imported and that sandboxes were started on.
    used: Mutex<HashMap<TemplateId, Arc<Base>>>,
}

/// What a sandbox lies on.
pub(super) struct Base {
    pub(super) tree: PathBuf,
    /// What it sees as `/usr`, if that is not in the tree.
    pub(super) usr: Option<PathBuf>,
    pub(super) env: Vec<(String, String)>,
    /// What Java trusts in it, where it has a store that is understood.
    pub(super) java: Option<Arc<Store>>,
}

/// The templates in a directory that belong to the sandboxes of a server, whether that runs or not. At least `reserve`
/// bytes of the disk stay free when one is imported.
///
/// # Errors
/// [`Error::Unsupported`] when the directory is there and not this user's alone; [`Error::Io`].
pub fn template_home(dir: PathBuf, reserve: u64) -> Result<TemplateHome, Error> {
    private_dir(&dir)?;
    Ok(TemplateHome::new(dir, gives_own_ids(), reserve))
}

impl Templates {
    pub(super) fn open(dir: PathBuf, usr: PathBuf, reserve: u64) -> Result<Self, Error> {
        Ok(Self {
            home: template_home(dir.clone(), reserve)?,
            dir,
            usr,
            host: Mutex::default(),
            used: Mutex::default(),
        })
    }

    /// Those that were imported.
    pub(super) fn home(&self) -> &TemplateHome {
        &self.home
    }

    /// Whether that one is here.
    pub(super) fn has(&self, id: &TemplateId) -> bool {
        self.home.has(id)
    }

    /// That one, or the host's. Blocks.
    ///
    /// # Errors
    /// [`Error::Missing`]; [`Error::Io`].
    pub(super) fn base(&self, template: Option<&TemplateId>) -> Result<Arc<Base>, Error> {
        let Some(id) = template else {
            return self.host();
        };
        if let Some(known) = self.used().get(id) {
            return Ok(Arc::clone(known));
        }
        let template = self.home.read(id)?.ok_or_else(|| Error::Missing {
            problem: format!(
                "the template sha256:{id} that this workspace was made on is not here: import it again"
            ),
        })?;
        let tree = self.home.tree(id);
        let base = Arc::new(Base {
            usr: None,
            env: template.env,
            java: trust::java(&tree).map(Arc::new),
            tree,
        });
        self.used().insert(id.clone(), Arc::clone(&base));
        Ok(base)
    }

    /// Nobody lies on that one any more.
    pub(super) fn forget(&self, id: &TemplateId) {
        self.used().remove(id);
    }

    fn used(&self) -> MutexGuard<'_, HashMap<TemplateId, Arc<Base>>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host's, generated at the first use and when the host's files have changed. Blocks.
    fn host(&self) -> Result<Arc<Base>, Error> {
        let mut ready = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ready) = &*ready {
            return Ok(Arc::clone(ready));
        }
        let path = self.dir.join("host");
        let stamp = stamp(&self.usr);
        let doing = || format!("generate the template {}", path.display());
        if fs::read_to_string(path.join("stamp")).ok().as_deref() != Some(stamp.as_str()) {
            let new = self.dir.join("host.new");
            for old in [&new, &path] {
                match fs::remove_dir_all(old) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(error).doing(doing);
                    }
                    _ => {}
                }
            }
            generate(&new, &self.usr, &stamp).doing(doing)?;
            fs::rename(&new, &path).doing(doing)?;
        }
        let tree = path.join("tree");
        let base = Arc::new(Base {
            usr: Some(self.usr.clone()),
            env: Vec::new(),
            java: trust::java(&tree).map(Arc::new),
            tree,
        });
        Ok(Arc::clone(ready.insert(base)))
    }
}

/// Changes when a source of the template does.
fn stamp(usr: &Path) -> String {
    let mut stamp = format!("{FORMAT} {}\n", usr.display());
    for name in sources() {
        if let Ok(metadata) = fs::symlink_metadata(Path::new("/etc").join(&name)) {
            let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
            stamp.push_str(&format!("{name} {seconds}.{nanos} {}\n", metadata.len()));
        }
    }
    stamp
}

fn sources() -> Vec<String> {
    let mut names: Vec<String> = COPIED.iter().map(|name| (*name).to_owned()).collect();
    for entry in fs::read_dir("/etc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if COPIED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            names.push(name);
        }
    }
    names.sort();
    names
}

fn generate(place: &Path, usr: &Path, stamp: &str) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(place)?;
    let tree = place.join("tree");
    directory(&tree, 0o755)?;
    for (name, mode) in DIRECTORIES {
        directory(&tree.join(name), *mode)?;
    }
    for name in MERGED {
        // Only what is there under /usr: `lib64` is not on every architecture.
        if usr.join(name).is_dir() {
            symlink(format!("usr/{name}"), tree.join(name))?;
        }
    }
    let mut left = TEMPLATE_FILES;
    for name in sources() {
        copy(
            &Path::new("/etc").join(&name),
            &tree.join("etc").join(&name),
            &mut left,
        )?;
    }
    for (name, content) in WRITTEN {
        fs::write(tree.join(name), content)?;
    }
    trusted::prepare(&Rooted::open(&tree)?)?;
    fs::write(tree.join("etc/machine-id"), machine_id()?)?;
    symlink("/usr/share/zoneinfo/UTC", tree.join("etc/localtime"))?;
    symlink("/proc/self/mounts", tree.join("etc/mtab"))?;
    symlink("/run", tree.join("var/run"))?;
    fs::write(place.join("stamp"), stamp)
}

fn directory(path: &Path, mode: u32) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Copies a tree: links as links, files and directories only if everybody may read them.
fn copy(from: &Path, to: &Path, left: &mut usize) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(from) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    *left = left.checked_sub(1).ok_or(io::ErrorKind::QuotaExceeded)?;
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    if metadata.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if metadata.mode() & 0o004 == 0 {
        return Ok(());
    }
    if metadata.is_dir() {
        directory(to, 0o755)?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            copy(&from.join(&name), &to.join(&name), left)?;
        }
    } else if metadata.is_file() && metadata.len() <= TEMPLATE_FILE_BYTES {
        let mut content = Vec::new();
        File::open(from)?
            .take(TEMPLATE_FILE_BYTES)
            .read_to_end(&mut content)?;
        File::create(to)?.write_all(&content)?;
        fs::set_permissions(
            to,
            fs::Permissions::from_mode(metadata.mode() & 0o755 | 0o644),
        )?;
    }
    Ok(())
}

/// A new one: the host's names the host.
fn machine_id() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{hex}\n"))
}
