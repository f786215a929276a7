//! Which database the server's facts are in, read from its URL, and its opening. A URL's text is never
//! printed: there may be a password in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{anyhow, bail};
use store::replica::{Replica, ReplicaName};
use store::{Options, Store, Synchronous};

use crate::config;
use crate::data_dir::DataDir;

/// Where the database is.
pub enum Place {
    /// In a file of this machine.
    File(PathBuf),
    /// On the PostgreSQL server that the URL names, password and all.
    Server(String),
}

/// `postgres://…`, or `sqlite:///path` with `?synchronous=off` for the one test that shows what it would
/// lose.
///
/// # Errors
/// It is neither.
pub fn place(url: Option<&str>, data_dir: &DataDir) -> anyhow::Result<(Place, Options)> {
    let mut options = Options::default();
    let Some(url) = url else {
        return Ok((Place::File(data_dir.join("longhand.db")), options));
    };
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        options.readers = store::limits::CONNECTIONS;
        return Ok((Place::Server(url.to_owned()), options));
    }
    let Some(rest) = url.strip_prefix("sqlite://") else {
        // Not its text: there may be a password in it.
        bail!(
            "`server.database_url` is neither sqlite:///path/to/longhand.db nor \
             postgres://USER:PASSWORD@HOST/DATABASE"
        );
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    match query {
        "" => {}
        "synchronous=off" => {
            tracing::warn!("synchronous=off: a power cut will lose acknowledged events");
            options.synchronous = Synchronous::Off;
        }
        other => bail!("`server.database_url`: unknown option {other:?}"),
    }
    Ok((Place::File(Path::new(path).to_owned()), options))
}

/// As whom a server uses a database that others may use as well.
///
/// # Errors
/// `server.replica` is no name, or the time is too short to tell a slow server from one that is gone.
pub fn replica(server: &config::Server, data_dir: &DataDir) -> anyhow::Result<Replica> {
    let name = match &server.replica {
        Some(name) => ReplicaName::new(name)
            .map_err(|must| anyhow!("`server.replica` is {name:?}: a name is {must}"))?,
        None => own_name(data_dir)?,
    };
    let dead_after = Duration::from_secs(server.replica_dead_after_seconds);
    let least = store::limits::DEAD_AFTER / 2;
    if dead_after < least || dead_after > Duration::from_secs(300) {
        bail!(
            "`server.replica_dead_after_seconds` is from {} to 300",
            least.as_secs()
        );
    }
    Ok(Replica {
        name,
        version: env!("CARGO_PKG_VERSION"),
        dead_after,
    })
}

/// The host's name, and what tells two data directories of one host apart.
fn own_name(data_dir: &DataDir) -> anyhow::Result<ReplicaName> {
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy();
    let fits = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let host = host.chars().filter(fits).take(40).collect::<String>();
    let path = data_dir.path().as_os_str().as_encoded_bytes();
    // FNV-1a: it need only differ.
    let mark = path.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    let name = format!("{host}-{:08x}", mark >> 32);
    ReplicaName::new(&name).map_err(|must| anyhow!("the host's name gives {name:?}: {must}"))
}

/// Opens it.
///
/// # Errors
/// Whatever keeps it from opening; the text says what to do.
pub async fn open(
    place: Place,
    options: Options,
    replica: Option<Replica>,
) -> anyhow::Result<Store> {
    Ok(match place {
        Place::File(path) => {
            tokio::task::spawn_blocking(move || Store::open(&path, options)).await??
        }
        Place::Server(url) => match replica {
            Some(replica) => Store::join(&url, options, replica).await?,
            None => Store::connect(&url, options).await?,
        },
    })
}
