//! Logins to a real PostgreSQL with a password that the client does not have.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use egress::audit::Action;
use egress::inject::{CredentialFile, CredentialsFile, Template};

use crate::cluster::Cluster;
use crate::ground::{SERVER, on_ground, run, unrestricted};
use crate::injected::{credential, id, placeholder, sandbox};
use crate::programs::{certificate, client};
use crate::upstreams::ROOT;

const SECRET: &str = "pass/of+the \u{2603} 'right' one";

/// Who gets in how. Nobody does in clear text.
const HBA: &str = "local all all trust\nhostssl all scram all scram-sha-256\nhostssl all older all md5\n\
    hostssl all clear all password\nhostssl all open all trust\nhostssl all certified all cert\n";

/// Makes a directory of data ready for TLS.
fn prepare(data: &Path) {
    certificate(data, &["allowed.test"]);
    std::fs::write(data.join("clients.crt"), ROOT.pem()).unwrap();
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(data.join("server.key"), private).unwrap();
    std::fs::write(data.join("pg_hba.conf"), HBA).unwrap();
}

fn fill(cluster: &Cluster) {
    let quoted = SECRET.replace('\'', "''");
    let made = cluster.sql(&format!(
        "SET password_encryption = 'md5'; CREATE ROLE older LOGIN PASSWORD '{quoted}';
         SET password_encryption = 'scram-sha-256';
         CREATE ROLE scram LOGIN PASSWORD '{quoted}'; CREATE ROLE clear LOGIN PASSWORD '{quoted}'; CREATE ROLE open LOGIN; CREATE ROLE certified LOGIN;
         CREATE TABLE told AS SELECT '{quoted}'::text AS it; GRANT SELECT ON told TO PUBLIC;"
    ));
    assert_eq!(made.trim(), "");
}

/// A server that speaks no TLS and asks for a password.
fn in_clear(mut stream: TcpStream, seen: &Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0; 4096];
    for answer in [&b"N"[..], b"R\0\0\0\x08\0\0\0\x03", b""] {
        let Ok(length @ 1..) = stream.read(&mut buffer) else {
            return;
        };
        seen.lock().unwrap().extend_from_slice(&buffer[..length]);
        stream.write_all(answer).unwrap();
    }
}

#[test]
fn a_login_to_postgresql_is_done_with_the_secret_and_the_client_never_has_it() {
    on_ground(unrestricted(), |ground| async move {
        let home = tempfile::Builder::new()
            .prefix("pg")
            .tempdir_in("/tmp")
            .unwrap();
        let place = home.path().join("c");
        let cluster = ground.among_servers(move || {
            let more = format!("-c listen_addresses={SERVER} -c ssl=on -c ssl_ca_file=clients.crt");
            Cluster::with(&place, &more, prepare)
        });
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        fill(&cluster);
        let clear = ground.server(SERVER, 5433, in_clear);
        let all = vec![credential(1, SECRET, Some(&["allowed.test"]))];
        let sandbox = sandbox(&ground, "logs-in", all).await;
        let psql = "$(ls /usr/lib/postgresql/*/bin/psql | tail -1) -XAt";
        let query = "select current_user, ssl from pg_stat_ssl where pid = pg_backend_pid()";
        for user in ["scram", "older", "clear", "open"] {
            for way in [
                "disable",
                "require",
                "verify-full sslrootcert=$SSL_CERT_FILE",
            ] {
                let login = format!(
                    "PGPASSWORD=$P {psql} \"host=allowed.test user={user} dbname=postgres sslmode={way}\" -c \"{query}\" 2>&1"
                );
                assert_eq!(run(&sandbox, &login).await, format!("{user}|t"), "{way}");
            }
        }
        let to = "\"host=allowed.test user=scram dbname=postgres\"";
        // What the server says of it is as long as it was.
        let told = run(
            &sandbox,
            &format!("PGPASSWORD=$P {psql} {to} -c 'select it from told' 2>&1"),
        )
        .await;
        assert_eq!(told, placeholder(1)[..SECRET.len()]);
        let runs = "select count(*) from pg_stat_activity where query = 'select pg_sleep(600)' and state = 'active'";
        let cancelled = format!(
            "export PGPASSWORD=$P; {psql} {to} -c 'select pg_sleep(600)' >/tmp/said 2>&1 & asks=$!; \
             until [ \"$({psql} {to} -c \"{runs}\")\" = 1 ]; do sleep 0.1; done; kill -INT $asks; wait $asks; cat /tmp/said"
        );
        let cancelled = run(&sandbox, &cancelled).await;
        assert!(
            cancelled.contains("canceling statement due to user request"),
            "{cancelled}"
        );
        for wrong in ["wrong", &placeholder(3)] {
            let refused = run(
                &sandbox,
                &format!("PGPASSWORD={wrong} {psql} {to} -c 'select 1' 2>&1"),
            )
            .await;
            assert!(
                refused.contains("password authentication failed for user \"scram\""),
                "{refused}"
            );
        }

        let used = ground
            .recorded("is of the login", |it| {
                it.protocol == "postgres" && it.credential == Some(id(1))
            })
            .await;
        assert_eq!(
            (used.action, used.name.as_deref()),
            (Action::Allowed, Some("allowed.test"))
        );
        let refused = run(
            &sandbox,
            &format!(
                "PGPASSWORD=$P {psql} \"host=allowed.test port=5433 user=scram\" -c 'select 1' 2>&1"
            ),
        )
        .await;
        assert!(refused.contains("over TLS only"), "{refused}");
        ground.denied("allowed.test", "credentials").await;
        assert!(
            !clear.text().contains("pass/of") && clear.text().contains("scram"),
            "{}",
            clear.text()
        );
        for record in ground.audit() {
            assert!(!format!("{record:?}").contains("pass/of"), "{record:?}");
        }

        // Without a password, with the operator's certificate.
        let (chain, key) = client("certified", &ROOT);
        let certified = CredentialFile {
            template: Some(Template::Certificate { chain }),
            ..credential(4, &key, Some(&["allowed.test"]))
        };
        *ground.credentials.lock().unwrap() = CredentialsFile {
            cleartext: true,
            credentials: vec![certified],
        };
        let sandbox = ground.sandbox("certified").await;
        let login = format!(
            "{psql} \"host=allowed.test user=certified dbname=postgres\" -c \"{query}\" 2>&1"
        );
        let login = format!("PGPASSWORD=none {login}");
        assert_eq!(run(&sandbox, &login).await, "certified|t");
        let shown = ground
            .recorded("is of the certificate", |it| it.credential == Some(id(4)))
            .await;
        assert_eq!(shown.protocol, "postgres");
        drop(cluster);
    });
}
