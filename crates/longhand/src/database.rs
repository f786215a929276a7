//! Which database the server's facts are in, read from its URL, and its opening. A URL's text is never
//! printed: there may be a password in it.

use std::path::{Path, PathBuf};

use anyhow::bail;
use store::{Options, Store, Synchronous};

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
        options.alone = true;
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

/// Opens it.
///
/// # Errors
/// Whatever keeps it from opening; the text says what to do.
pub async fn open(place: Place, options: Options) -> anyhow::Result<Store> {
    Ok(match place {
        Place::File(path) => {
            tokio::task::spawn_blocking(move || Store::open(&path, options)).await??
        }
        Place::Server(url) => Store::connect(&url, options).await?,
    })
}
