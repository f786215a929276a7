//! The way between a server and its database, which can be cut: connections stay, and nothing arrives on either side,
//! as behind a network that swallows packets. It carries what a database on a Unix socket speaks, and looks at none.

use std::io;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// What a PostgreSQL server of the default port calls its socket.
const SOCKET: &str = ".s.PGSQL.5432";

/// Bytes carried at once.
const PIECE: usize = 16 << 10;

/// A way to a database. Dropping it ends its connections.
#[derive(Debug)]
pub struct Cable {
    home: PathBuf,
    cut: watch::Sender<bool>,
    to: watch::Sender<PathBuf>,
    carries: AbortHandle,
    _tasks: JoinSet<()>,
}

impl Cable {
    /// A way in `home`, a new directory with a short name, to the database server in `to`.
    ///
    /// # Errors
    /// The directory or the socket cannot be made.
    pub fn new(home: &Path, to: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(home)?;
        let listener = UnixListener::bind(home.join(SOCKET))?;
        let (cut, is_cut) = watch::channel(false);
        let (to, leads_to) = watch::channel(to.join(SOCKET));
        let mut tasks = JoinSet::new();
        let carries = tasks.spawn(carry(listener, leads_to, is_cut));
        Ok(Self {
            home: home.to_owned(),
            cut,
            to,
            carries,
            _tasks: tasks,
        })
    }

    /// The URL of the first database behind it.
    #[must_use]
    pub fn url(&self) -> String {
        crate::cluster::url(&self.home, "postgres")
    }

    /// From now on nothing arrives.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// From now on new connections go to the database server in `to`; those that stand stay where they are.
    pub fn lead_to(&self, to: &Path) {
        self.to.send_replace(to.join(SOCKET));
    }

    /// From now on everything arrives, also what was sent meanwhile.
    pub fn mend(&self) {
        self.cut.send_replace(false);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.carries.abort();
    }
}

async fn carry(
    listener: UnixListener,
    to: watch::Receiver<PathBuf>,
    is_cut: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (to, is_cut) = (to.clone(), is_cut.clone());
        connections.spawn(async move {
            // Whoever dials while it is cut waits as well.
            if whole(&is_cut).await.is_err() {
                return;
            }
            let to = to.borrow().clone();
            let Ok(far) = UnixStream::connect(to).await else {
                return;
            };
            let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
            // The end of either side is the end of both.
            tokio::select! {
                _ = one_way(from_near, to_far, &is_cut) => {}
                _ = one_way(from_far, to_near, &is_cut) => {}
            }
        });
    }
}

async fn whole(is_cut: &watch::Receiver<bool>) -> io::Result<()> {
    let mended = is_cut.clone().wait_for(|cut| !cut).await.map(|_| ());
    mended.map_err(io::Error::other)
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    is_cut: &watch::Receiver<bool>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece).await?;
        // An end does not arrive either.
        whole(is_cut).await?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&piece[..read]).await?;
    }
}
