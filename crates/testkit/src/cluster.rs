//! A PostgreSQL server of the system's own binaries, for tests: one for all that run under the same parent,
//! gone when that is. It needs nothing but the standard library, so that other crates' tests include the file
//! as it is. It never stands in for a server that somebody uses: nothing is flushed to the disk.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Databases that this process made.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A database of its own, removed with this.
#[derive(Debug)]
pub struct Database {
    home: PathBuf,
    name: String,
}

impl Default for Database {
    fn default() -> Self {
        Self::new()
    }
}

impl Database {
    /// An empty database on the shared server, which is started if need be.
    ///
    /// # Panics
    /// If there is no PostgreSQL 15 or later on this machine.
    #[must_use]
    pub fn new() -> Self {
        let (home, _lock) = shared();
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{}_{n}", std::process::id());
        sql(&home, &format!("CREATE DATABASE {name}"));
        Self { home, name }
    }

    /// A copy of a database that `prepare`, given its URL, has made ready once for all tests of this run.
    /// No statement reads a whole table there as long as an index serves, however few rows there are.
    ///
    /// # Panics
    /// If there is no PostgreSQL 15 or later on this machine.
    #[must_use]
    pub fn prepared(prepare: impl FnOnce(&str)) -> Self {
        let (home, lock) = shared();
        if !home.join("template").exists() {
            sql(&home, "CREATE DATABASE prepared");
            prepare(&url(&home, "prepared"));
            File::create(home.join("template")).expect("a mark");
        }
        drop(lock);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{}_{n}", std::process::id());
        sql(&home, &format!("CREATE DATABASE {name} TEMPLATE prepared"));
        sql(
            &home,
            &format!("ALTER DATABASE {name} SET enable_seqscan = off"),
        );
        Self { home, name }
    }

    /// Ends all connections. Those of `tables` that were read from end to end since it was made.
    #[must_use]
    pub fn scanned(&self, tables: &[&str]) -> String {
        let end = format!(
            "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
             WHERE datname = '{}'",
            self.name
        );
        sql(&self.home, &end);
        let tables = tables.join("', '");
        self.sql(&format!(
            "SELECT relname, seq_scan FROM pg_stat_user_tables
             WHERE seq_scan > 0 AND relname IN ('{tables}')"
        ))
    }

    /// How it is reached.
    #[must_use]
    pub fn url(&self) -> String {
        url(&self.home, &self.name)
    }

    /// Runs statements beside it, about it.
    ///
    /// # Panics
    /// If one fails.
    pub fn administer(&self, text: &str) {
        sql(&self.home, text);
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs statements on it, as an administrator would. Returns what `psql` prints.
    ///
    /// # Panics
    /// If one fails.
    #[must_use]
    pub fn sql(&self, text: &str) -> String {
        psql(&self.home, &self.name, text)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            sql(
                &self.home,
                &format!("DROP DATABASE {} WITH (FORCE)", self.name),
            );
        }
    }
}

/// A server of one's own, to be stopped and started.
#[derive(Debug)]
pub struct Cluster {
    home: PathBuf,
    durable: bool,
    more: String,
}

impl Cluster {
    /// Makes and starts one in `home`, a new directory with a short name.
    ///
    /// # Panics
    /// If there is no PostgreSQL 15 or later on this machine.
    #[must_use]
    pub fn new(home: &Path) -> Self {
        Self::with(home, "", |_| {})
    }

    /// The same with further settings (`-c name=value …`), started once `prepare` has made its directory of data
    /// ready, the files there being its owner's.
    ///
    /// # Panics
    /// If there is no PostgreSQL 15 or later on this machine.
    #[must_use]
    pub fn with(home: &Path, more: &str, prepare: impl FnOnce(&Path)) -> Self {
        make(home);
        let data = home.join("data");
        prepare(&data);
        if let Some((uid, gid)) = other() {
            for file in std::fs::read_dir(data).expect("its data").flatten() {
                std::os::unix::fs::chown(file.path(), Some(uid), Some(gid)).expect("its owner");
            }
        }
        let cluster = Self {
            home: home.to_owned(),
            durable: false,
            more: more.to_owned(),
        };
        cluster.start();
        cluster
    }

    /// The same for measurements: what it says is committed is on the disk, and its tables are tended.
    ///
    /// # Panics
    /// If there is no PostgreSQL 15 or later on this machine.
    #[must_use]
    pub fn durable(home: &Path) -> Self {
        make(home);
        let cluster = Self {
            home: home.to_owned(),
            durable: true,
            more: String::new(),
        };
        cluster.start();
        cluster
    }

    /// A standby of it in `home`, a new directory with a short name: a server that follows it and takes no writes.
    ///
    /// # Panics
    /// It cannot be made or started.
    #[must_use]
    pub fn standby(&self, home: &Path) -> Self {
        directory(home);
        let mut copy = as_server("pg_basebackup");
        copy.arg("-h").arg(&self.home).args(["-U", "longhand"]);
        copy.args(["-X", "stream", "-c", "fast", "--no-sync", "-R", "-D"]);
        run(copy.arg(home.join("data")));
        let standby = Self {
            home: home.to_owned(),
            durable: self.durable,
            more: self.more.clone(),
        };
        standby.start();
        standby
    }

    /// Makes a standby a server of its own, which takes writes.
    ///
    /// # Panics
    /// It is none, or does not become one.
    pub fn promote(&self) {
        let mut promote = as_server("pg_ctl");
        promote.args(["-w", "-D"]).arg(self.home.join("data"));
        run(promote.arg("promote"));
    }

    /// Where it is.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The URL of its first database.
    #[must_use]
    pub fn url(&self) -> String {
        url(&self.home, "postgres")
    }

    /// Runs statements on its first database. Returns what `psql` prints.
    ///
    /// # Panics
    /// If one fails.
    #[must_use]
    pub fn sql(&self, text: &str) -> String {
        psql(&self.home, "postgres", text)
    }

    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(&self) {
        start(&self.home, self.durable, &self.more);
    }

    /// Ends it at once, as a power cut would.
    ///
    /// # Panics
    /// If it does not end.
    pub fn stop(&self) {
        let data = self.home.join("data");
        let mut stop = as_server("pg_ctl");
        stop.args(["-w", "-m", "immediate", "-D"]).arg(data);
        run(stop.arg("stop"));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let data = self.home.join("data");
        let mut stop = as_server("pg_ctl");
        stop.args(["-w", "-m", "immediate", "-D"]).arg(data);
        // It may have been stopped already.
        let _ = stop.arg("stop").output();
    }
}

/// How a database of the server in `home` is reached.
#[must_use]
pub fn url(home: &Path, database: &str) -> String {
    let host = home.display().to_string().replace('/', "%2F");
    format!("postgres://longhand@{host}/{database}")
}

/// The home of the server that all tests of this run share, and the lock under which it is made ready.
fn shared() -> (PathBuf, File) {
    let parent = std::os::unix::process::parent_id();
    let home = std::env::temp_dir().join(format!("longhand-pg-{parent}"));
    let lock = File::create(home.with_extension("lock")).expect("a lock file");
    lock.lock().expect("the lock of the shared server");
    if !home.join("ready").exists() {
        // What an earlier process of this number left behind.
        let _ = std::fs::remove_dir_all(&home);
        make(&home);
        start(&home, false, "");
        watch(&home, parent);
        File::create(home.join("ready")).expect("a mark");
    }
    (home, lock)
}

/// Ends the server once `parent` is gone.
fn watch(home: &Path, parent: u32) {
    let script = "while kill -0 \"$1\" 2>/dev/null; do sleep 1; done
        rm -f \"$2/ready\"
        kill -QUIT \"$(head -n 1 \"$2/data/postmaster.pid\")\"
        sleep 1; rm -rf \"$2\" \"$2.lock\"";
    let mut watch = Command::new("sh");
    watch.args(["-c", script, "sh", &parent.to_string()]);
    watch.arg(home).process_group(0);
    watch.stdin(Stdio::null()).stdout(Stdio::null());
    watch.stderr(Stdio::null());
    // It outlives this process on purpose.
    drop(watch.spawn().expect("a watcher"));
}

/// A directory that the server's user owns.
fn directory(home: &Path) {
    std::fs::create_dir_all(home).expect("a directory");
    if let Some((uid, gid)) = other() {
        std::os::unix::fs::chown(home, Some(uid), Some(gid)).expect("its owner");
    }
}

fn make(home: &Path) {
    directory(home);
    let mut init = as_server("initdb");
    init.arg("-D").arg(home.join("data"));
    init.args(["-A", "trust", "-U", "longhand", "-E", "UTF8", "--no-sync"]);
    // An order of texts that is not that of their bytes: nothing may depend on it.
    init.args([
        "--locale=C.UTF-8",
        "--locale-provider=icu",
        "--icu-locale=en",
    ]);
    run(&mut init);
}

fn start(home: &Path, durable: bool, more: &str) {
    let care = if durable {
        "-c shared_buffers=256MB -c max_wal_size=2GB"
    } else {
        "-c fsync=off -c full_page_writes=off -c shared_buffers=64MB -c autovacuum=off -c max_wal_size=256MB"
    };
    let settings = format!(
        "-c listen_addresses= -c unix_socket_directories={} -c max_connections=200 {care} {more}",
        home.display()
    );
    let mut start = as_server("pg_ctl");
    start.args(["-w", "-t", "120", "-s", "-D"]);
    start.arg(home.join("data")).arg("-l").arg(home.join("log"));
    start.args(["-o", &settings, "start"]);
    // Not `output`: the server would hold the pipe open.
    start.stdin(Stdio::null()).stdout(Stdio::null());
    start.stderr(Stdio::null());
    let done = start.status().expect("pg_ctl");
    let log = std::fs::read_to_string(home.join("log")).unwrap_or_default();
    assert!(done.success(), "PostgreSQL did not start: {log}");
}

fn sql(home: &Path, text: &str) {
    let _ = psql(home, "postgres", text);
}

fn psql(home: &Path, database: &str, text: &str) -> String {
    let mut psql = Command::new(program("psql"));
    psql.arg("-h").arg(home);
    psql.args(["-U", "longhand", "-d", database, "-v", "ON_ERROR_STOP=1"]);
    psql.args(["-X", "-q", "-A", "-t", "-c", text]);
    run(&mut psql)
}

fn run(command: &mut Command) -> String {
    let done = command.output().expect("a program of PostgreSQL");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// A program of the server, as another user if this one is root: the server refuses to be root's.
fn as_server(name: &str) -> Command {
    let mut command = Command::new(program(name));
    if let Some((uid, gid)) = other() {
        command.uid(uid).gid(gid);
    }
    command.current_dir("/");
    command
}

/// Who runs the server, if not whoever runs this.
fn other() -> Option<(u32, u32)> {
    let own = std::fs::metadata("/proc/self").expect("procfs");
    if std::os::unix::fs::MetadataExt::uid(&own) != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").expect("users");
    let find = |wanted: &str| {
        let line = users
            .lines()
            .find(|l| l.split(':').next() == Some(wanted))?;
        let mut ids = line.split(':').skip(2).map(str::parse::<u32>);
        Some((ids.next()?.ok()?, ids.next()?.ok()?))
    };
    find("postgres").or_else(|| find("nobody"))
}

fn program(name: &str) -> PathBuf {
    let installed = Path::new("/usr/lib/postgresql");
    let versions = std::fs::read_dir(installed).into_iter().flatten().flatten();
    let versions = versions.filter_map(|v| v.file_name().to_str()?.parse::<u32>().ok());
    let newest = versions.filter(|v| *v >= 15).max();
    let version = newest.expect("PostgreSQL 15 or later: apt-get install postgresql");
    installed.join(version.to_string()).join("bin").join(name)
}
