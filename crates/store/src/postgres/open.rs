//! Which server, how it is reached, and whether it will do. It says of each thing that is wrong with it what
//! to do, and never shows a password.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::fault::told;
use super::{Conn, kept, keys, migrate, remove};
use crate::clock;
use crate::error::{Cause, OpenError};
use crate::limits;
use crate::replica::Replica;
use crate::store::{Options, Synchronous};

/// The oldest server that is known to work.
const OLDEST: u32 = 15;

/// A connection that nobody drives yet.
pub(super) type Wire = (
    Client,
    tokio_postgres::Connection<
        tokio_postgres::Socket,
        <MakeRustlsConnect as MakeTlsConnect<tokio_postgres::Socket>>::Stream,
    >,
);

/// A server and how it is reached.
#[derive(Clone)]
pub(super) struct Server {
    config: Config,
    tls: MakeRustlsConnect,
    /// How it is named in texts: without its password.
    name: PathBuf,
    /// Connections that this process will have at most.
    needs: usize,
}

impl Server {
    /// Reads `url`. Reaches nothing.
    pub(super) fn parse(
        url: &str,
        options: Options,
        me: Option<&Replica>,
    ) -> Result<Self, OpenError> {
        let wrong = |why: String| OpenError::Url { why };
        let mut parsed = url::Url::parse(url).map_err(|e| wrong(e.to_string()))?;
        let mut roots = None;
        let mut verifies = false;
        let mut rest = Vec::new();
        for (key, value) in parsed.query_pairs().into_owned() {
            match (&*key, &*value) {
                ("sslrootcert", _) => roots = Some(PathBuf::from(value)),
                // Every certificate that is asked for is verified.
                ("sslmode", "require" | "verify-ca" | "verify-full") => verifies = true,
                ("options", _) => {
                    return Err(wrong(
                        "leave out `options`: the server's are set here".to_owned(),
                    ));
                }
                _ => rest.push((key, value)),
            }
        }
        parsed.set_query(None);
        if !rest.is_empty() {
            parsed.query_pairs_mut().extend_pairs(rest);
        }
        let mut config = parsed.as_str().parse::<Config>().map_err(|error| {
            wrong(
                std::error::Error::source(&error)
                    .map_or_else(|| error.to_string(), |below| format!("{error}: {below}")),
            )
        })?;
        if config.get_user().is_none() {
            return Err(wrong(
                "it names no user: postgres://USER@HOST/DATABASE".to_owned(),
            ));
        }
        if config.get_hosts().is_empty() {
            return Err(wrong(
                "it names no host: postgres://USER@HOST/DATABASE".to_owned(),
            ));
        }
        let remote = |host: &Host| match host {
            Host::Tcp(name) => !matches!(name.as_str(), "localhost" | "127.0.0.1" | "::1"),
            Host::Unix(_) => false,
        };
        let asked = parsed.query_pairs().any(|(key, _)| key == "sslmode");
        if verifies || (!asked && config.get_hosts().iter().any(remote)) {
            config.ssl_mode(SslMode::Require);
        } else if !asked {
            config.ssl_mode(SslMode::Disable);
        }
        set(&mut config, options, me);
        Ok(Self {
            tls: tls(roots.as_deref())?,
            name: name(&config),
            config,
            // One writes, one is the link; one more looks at the server at the start.
            needs: options.readers.max(1) + 2 + usize::from(me.is_some()),
        })
    }

    /// A pool of at most `size` connections. Makes none yet.
    pub(super) fn pool(&self, size: usize) -> Result<Pool, OpenError> {
        let how = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = Manager::from_config(self.config.clone(), self.tls.clone(), how);
        let pool = Pool::builder(manager)
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(limits::CONNECTION_WAIT))
            .create_timeout(Some(limits::CONNECT))
            .recycle_timeout(Some(limits::CONNECT))
            .build();
        pool.map_err(|error| self.failed(error.into()))
    }

    /// Looks whether the server will do, and brings the database to this build's schema. True if deleted
    /// sessions left events behind.
    pub(super) async fn prepare(&self) -> Result<bool, OpenError> {
        let ready = async |mut client: Client| {
            self.fit(&client).await?;
            migrate::migrate(&mut client, &self.name).await
        };
        self.using(ready).await?;
        let pool = self.pool(1)?;
        let conn = Conn::take(&pool).await;
        let conn = conn.map_err(|_| self.failed("the connection was lost".into()))?;
        let settled = async {
            keys::ensure_default(&conn, clock::now()).await?;
            kept::sweep_all(&conn, clock::now()).await?;
            remove::has_trash(&conn).await
        };
        let trash = settled.await;
        trash.map_err(|failed| self.failed(super::writer::cause(failed)))
    }

    /// What the server is, if it will do.
    pub(super) async fn probe(&self) -> Result<String, OpenError> {
        let version = self.using(async |client: Client| self.fit(&client).await);
        Ok(format!(
            "{}: PostgreSQL {}",
            self.name.display(),
            version.await?
        ))
    }

    /// A connection that its user drives.
    pub(super) async fn wire(&self) -> Result<Wire, OpenError> {
        let connected =
            tokio::time::timeout(limits::CONNECT, self.config.connect(self.tls.clone()));
        let connected = connected.await.map_err(|_| {
            self.refused(format!(
                "no answer within {} seconds: check the host and the port, and what lies between",
                limits::CONNECT.as_secs()
            ))
        })?;
        connected.map_err(|error| match advice(error.code()) {
            Some(advice) => self.refused(format!("{}: {advice}", told(error))),
            None => self.failed(told(error)),
        })
    }

    /// Runs `work` on a connection of its own.
    async fn using<T>(
        &self,
        work: impl AsyncFnOnce(Client) -> Result<T, OpenError>,
    ) -> Result<T, OpenError> {
        let (client, connection) = self.wire().await?;
        // Both end here, so that the connection is nobody's task: it is driven while its client is used.
        let (ended, done) = tokio::join!(connection, work(client));
        let done = done?;
        ended.map_err(|error| self.failed(told(error)))?;
        Ok(done)
    }

    /// Whether the server will do; its version.
    async fn fit(&self, client: &Client) -> Result<u32, OpenError> {
        let sql = "SELECT current_setting('server_version_num')::bigint, pg_is_in_recovery(),
            current_setting('default_transaction_read_only') = 'on',
            least(
              current_setting('max_connections')::bigint
                - current_setting('superuser_reserved_connections')::bigint
                - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
              (SELECT rolconnlimit - (SELECT count(*) FROM pg_stat_activity WHERE usename = rolname)
               FROM pg_roles WHERE rolname = current_user AND rolconnlimit >= 0 AND NOT rolsuper),
              (SELECT datconnlimit - (SELECT count(*) FROM pg_stat_activity a WHERE a.datname = d.datname)
               FROM pg_database d JOIN pg_roles ON rolname = current_user
               WHERE d.datname = current_database() AND datconnlimit >= 0 AND NOT rolsuper)),
            current_setting('server_encoding'), to_regclass('moves') IS NOT NULL";
        let row = client.query_one(sql, &[]).await;
        let row = row.map_err(|error| self.failed(told(error)))?;
        let version = u32::try_from(row.get::<_, i64>(0) / 10_000).unwrap_or(0);
        if row.get::<_, bool>(5) {
            return Err(
                self.refused("a move into it has not ended: run `longhand move` again".to_owned())
            );
        }
        if version < OLDEST {
            return Err(self.refused(format!(
                "it runs PostgreSQL {version}: upgrade it to {OLDEST} or later"
            )));
        }
        if row.get::<_, bool>(1) || row.get::<_, bool>(2) {
            return Err(self.refused(
                "it is read-only (a standby, or set so): name the primary server".to_owned(),
            ));
        }
        let encoding = row.get::<_, &str>(4);
        if encoding != "UTF8" {
            return Err(self.refused(format!(
                "its encoding is {encoding}: create the database with ENCODING 'UTF8'"
            )));
        }
        let free = row.get::<_, i64>(3) + 1;
        if free < i64::try_from(self.needs).unwrap_or(i64::MAX) {
            return Err(self.refused(format!(
                "it has {free} connections left and this replica needs {}: raise its max_connections, or what its role \
                 or the database may have",
                self.needs
            )));
        }
        Ok(version)
    }

    /// The server will not do.
    pub(super) fn refused(&self, why: String) -> OpenError {
        OpenError::Server {
            path: self.name.clone(),
            why,
        }
    }

    pub(super) fn failed(&self, source: Cause) -> OpenError {
        OpenError::Database {
            path: self.name.clone(),
            source,
        }
    }
}

/// What to do about a connection that the server, or the way to it, refused.
fn advice(code: Option<&SqlState>) -> Option<&'static str> {
    Some(match code {
        // It did not answer as a server does.
        None => "check the host and the port, that a server runs there, and its certificate",
        Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
            "check the user and the password, and what the server's pg_hba.conf lets in"
        }
        Some(&SqlState::INVALID_CATALOG_NAME) => {
            "create it (createdb --encoding UTF8 --template template0), or name another"
        }
        Some(&SqlState::TOO_MANY_CONNECTIONS) => {
            "raise the server's max_connections, or what the role or the database may have"
        }
        Some(&SqlState::CANNOT_CONNECT_NOW) => "it starts or stops: try again when it is up",
        Some(_) => return None,
    })
}

/// What every connection has.
fn set(config: &mut Config, options: Options, me: Option<&Replica>) {
    let durable = match options.synchronous {
        Synchronous::Full => "on",
        Synchronous::Off => "off",
    };
    // Plans depend on the statement alone, as on SQLite; none is worth compiling, nor helpers that read a page with it.
    // What the statements ask of whoever runs them. A name needs no quotes.
    let me = me.map_or_else(String::new, |me| {
        let (name, dead_after) = (me.name.as_str(), me.dead_after.as_micros());
        format!(" -c longhand.replica={name} -c longhand.dead_after={dead_after}")
    });
    config.options(format!(
        "-c statement_timeout={} -c lock_timeout={} -c idle_in_transaction_session_timeout={} \
         -c synchronous_commit={durable} -c plan_cache_mode=force_generic_plan -c jit=off \
         -c max_parallel_workers_per_gather=0{me}",
        limits::STATEMENT.as_millis(),
        limits::LOCK_WAIT.as_millis(),
        limits::IDLE_IN_TRANSACTION.as_millis(),
    ));
    if config.get_application_name().is_none() {
        config.application_name("longhand");
    }
    config.connect_timeout(limits::CONNECT);
    config.tcp_user_timeout(limits::CONNECT * 2);
    config.keepalives_idle(Duration::from_secs(30));
}

/// How the server is named in texts.
fn name(config: &Config) -> PathBuf {
    let host = config.get_hosts().first().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let user = config.get_user().unwrap_or_default();
    let database = config.get_dbname().unwrap_or(user);
    let host = host.unwrap_or_default();
    PathBuf::from(format!("postgres://{user}@{host}:{port}/{database}"))
}

/// TLS against the given roots, or those that browsers trust.
fn tls(roots: Option<&Path>) -> Result<MakeRustlsConnect, OpenError> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let mut store = RootCertStore::empty();
    match roots {
        None => {
            for root in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
                store
                    .add(root.clone())
                    .map_err(|e| OpenError::Url { why: e.to_string() })?;
            }
        }
        Some(path) => {
            let wrong = |error: String| OpenError::Url {
                why: format!("sslrootcert {}: {error}", path.display()),
            };
            let found = CertificateDer::pem_file_iter(path).map_err(|e| wrong(e.to_string()))?;
            for root in found {
                let root = root.map_err(|e| wrong(e.to_string()))?;
                store.add(root).map_err(|e| wrong(e.to_string()))?;
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| OpenError::Url { why: e.to_string() })?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
