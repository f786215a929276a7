//! A database that will not do, and a server that does not fit the others on it: each is refused with its cause and with
//! what to do, by the real binary. What goes wrong while it runs is said, and over as soon as it is mended.

use std::path::Path;

use serde_json::json;
use testkit::api::{Api, Failed};
use testkit::cluster::{Cluster, url};
use testkit::ledger::Ledger;
use testkit::process::Launch;
use testkit::skew::Skew;
use testkit::wait;

use crate::fleet::{Fleet, MASTER_KEY, play};
use crate::terminal::{lines, piped};

/// A server on the database of that URL.
fn launch(url: &str) -> Launch {
    let launch = Launch::new(env!("CARGO_BIN_EXE_longhand")).expect("a temporary directory");
    launch
        .environment("LONGHAND_SERVER_DATABASE_URL", url)
        .environment("LONGHAND_MASTER_KEY", MASTER_KEY)
}

fn home() -> tempfile::TempDir {
    let home = tempfile::Builder::new().prefix("lhpg").tempdir();
    home.expect("a directory")
}

/// All of `says` is said, and no password.
async fn is_refused(launch: &Launch, says: &[&str]) {
    let said = launch.refused().await;
    for words in says {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}

/// Every function of that name answers instead of the database's own, to whoever connects from now on.
fn overrule(cluster: &Cluster, function: &str) {
    let _ = cluster.sql(&format!(
        "CREATE SCHEMA IF NOT EXISTS overruled; CREATE FUNCTION overruled.{function};
         ALTER DATABASE postgres SET search_path = overruled, pg_catalog, public"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_let_in_is_told_what_to_look_at() {
    let home = home();
    let lets_in = |data: &Path| {
        let rules = "local all guarded scram-sha-256\nlocal all all trust\n";
        std::fs::write(data.join("pg_hba.conf"), rules).expect("written");
    };
    let cluster = Cluster::with(&home.path().join("c"), "", lets_in);
    let _ = cluster.sql("CREATE ROLE guarded LOGIN PASSWORD 'the right one'");
    let as_user = |user: &str| cluster.url().replace("longhand@", &format!("{user}@"));
    let nowhere = url(&home.path().join("nowhere"), "postgres");
    for (url, says) in [
        (
            as_user("guarded:hunter2"),
            [
                "password authentication failed",
                "check the user and the password",
            ],
        ),
        (
            as_user("nobody:hunter2"),
            ["\"nobody\" does not exist", "check the user"],
        ),
        (
            url(cluster.home(), "nowhere"),
            ["\"nowhere\" does not exist", "createdb --encoding UTF8"],
        ),
        (nowhere, ["No such file", "check the host and the port"]),
        (
            "postgres://u:hunter2@127.0.0.1:1/d".to_owned(),
            ["refused", "check the host and the port"],
        ),
        (
            "mysql://u:hunter2@h/d".to_owned(),
            [
                "`server.database_url`",
                "postgres://USER:PASSWORD@HOST/DATABASE",
            ],
        ),
    ] {
        is_refused(&launch(&url), &says).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_too_few_connections_is_refused() {
    let home = home();
    let cluster = Cluster::with(&home.path().join("c"), "-c max_connections=9", |_| {});
    let says = [
        "connections left and this replica needs 11",
        "raise its max_connections",
    ];
    is_refused(&launch(&cluster.url()), &says).await;
    // Limits of a role and of a database count as well, whatever the server has.
    cluster.stop();
    let roomy = Cluster::new(&home.path().join("d"));
    let _ = roomy.sql("CREATE ROLE few LOGIN CONNECTION LIMIT 5");
    let _ = roomy.sql("CREATE ROLE many LOGIN");
    let _ = roomy.sql("CREATE DATABASE small OWNER many CONNECTION LIMIT 4");
    for (user, database) in [("few", "postgres"), ("many", "small")] {
        let url = url(roomy.home(), database).replace("longhand@", &format!("{user}@"));
        is_refused(&launch(&url), &["what its role or the database may have"]).await;
    }
}

/// The real version cannot be had here, so what the server says of itself is changed: the same statement is answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_server_that_is_too_old_is_refused() {
    let home = home();
    let cluster = Cluster::new(&home.path().join("c"));
    overrule(
        &cluster,
        "current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT CASE $1
           WHEN 'server_version_num' THEN '140011' ELSE pg_catalog.current_setting($1) END $$",
    );
    is_refused(
        &launch(&cluster.url()),
        &["it runs PostgreSQL 14: upgrade it to 15 or later"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_database_is_refused() {
    let home = home();
    let cluster = Cluster::new(&home.path().join("c"));
    let says = ["it is read-only (a standby, or set so): name the primary server"];
    let standby = cluster.standby(&home.path().join("s"));
    is_refused(&launch(&standby.url()), &says).await;
    let _ = cluster.sql("ALTER DATABASE postgres SET default_transaction_read_only = on");
    is_refused(&launch(&cluster.url()), &says).await;
}

/// What a session of `api` owes after one more message, which is answered.
async fn turn(api: &Api, session: &str, ledger: &mut Ledger, token: &str) {
    play(api, session, ledger, token, &json!([{"text": "heard"}])).await;
    let log = api.idle(session).await;
    assert_eq!(ledger.audit(&log), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_database_fails_over_goes_on_with_the_standby_once_that_takes_writes() {
    let mut fleet = Fleet::new(1).await;
    let standby = fleet.cluster.standby(&fleet.home().join("s"));
    let api = fleet.api(0);
    let ground = api.ground().await.expect("an agent and an environment");
    let (session, mut ledger) = (
        api.session(&ground).await.expect("a session"),
        Ledger::default(),
    );
    turn(&api, &session, &mut ledger, "before").await;
    wait::until("the standby to have it all", || async {
        let all = "SELECT count(*) > 0 AND bool_and(replay_lsn = pg_current_wal_lsn()) FROM pg_stat_replication";
        (fleet.cluster.sql(all).trim() == "t").then_some(())
    })
    .await;
    fleet.cluster.stop();
    fleet.cables[0].lead_to(standby.home());
    // It reads, and refuses what it cannot keep, for now.
    let path = format!("/v1/sessions/{session}");
    wait::until("the standby to be read", || async {
        api.get(&path).await.ok()
    })
    .await;
    let Err(Failed::Refused { status, body }) = api.session(&ground).await else {
        panic!("a standby was written to");
    };
    assert_eq!(status, 503, "{body}");
    standby.promote();
    wait::until("it to be written to", || async {
        api.session(&ground).await.ok()
    })
    .await;
    turn(&api, &session, &mut ledger, "after").await;
    fleet.kill(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_clock_is_minutes_off_is_refused_and_one_that_drifts_so_far_says_so() {
    let home = home();
    let skew = Skew::new(home.path()).expect("a C compiler");
    let fleet = Fleet::new(1).await;
    let off = |name: &str, seconds: i64| {
        let launch = launch(&fleet.cluster.url()).environment("LONGHAND_SERVER_REPLICA", name);
        let set = skew.environment(seconds);
        set.into_iter().fold(launch, |launch, (name, value)| {
            launch.environment(name, &value)
        })
    };
    for (seconds, says) in [
        (300, "before the database's"),
        (-300, "behind the database's"),
    ] {
        is_refused(
            &off("off", seconds),
            &["the clock of this host is", says, "set both by NTP"],
        )
        .await;
    }
    // A few seconds are no matter: who is there is judged by the database's clock.
    let near = off("near", 5).start().await;
    let listed = near.api().get("/healthz").await;
    drop((near, listed));
    // The database's clock is set while a server runs: what it is told with its next connection is another time.
    overrule(
        &fleet.cluster,
        "clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$
           SELECT pg_catalog.clock_timestamp() - interval '5 minutes' $$",
    );
    let _ = fleet.cluster.sql(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE pid <> pg_backend_pid() AND application_name = 'longhand'",
    );
    wait::until("it to say so", || async {
        let said = fleet.server(0).tail();
        (said.contains("before the database's") && said.contains("set both by NTP")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_fit_the_others_is_refused() {
    let fleet = Fleet::new(1).await;
    let named = |name: &str, key: &str| {
        launch(&fleet.cluster.url())
            .without("LONGHAND_MASTER_KEY")
            .environment("LONGHAND_MASTER_KEY", key)
            .environment("LONGHAND_SERVER_REPLICA", name)
    };
    let says = [
        "a server with the name \"r0\"",
        "`server.replica`, or stop that one",
    ];
    is_refused(&named("r0", MASTER_KEY), &says).await;
    is_refused(
        &named("two words", MASTER_KEY),
        &["`server.replica`", "a name is"],
    )
    .await;
    let other = MASTER_KEY.replace('5', "6");
    let says = ["the master key is not the one", "restore the right key"];
    is_refused(&named("r1", &other), &says).await;
}

/// A newer version adds to the schema, and the older one goes on beside it until it is stopped; started again, it is
/// refused.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_server_goes_on_while_a_newer_one_migrates_and_does_not_start_again() {
    let mut fleet = Fleet::new(1).await;
    let api = fleet.api(0);
    let ground = api.ground().await.expect("an agent and an environment");
    let (session, mut ledger) = (
        api.session(&ground).await.expect("a session"),
        Ledger::default(),
    );
    turn(&api, &session, &mut ledger, "before").await;
    // As a migration of the next version would: every table gets a column more.
    let tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'";
    for table in fleet.cluster.sql(tables).lines() {
        let _ = fleet.cluster.sql(&format!(
            "ALTER TABLE {table} ADD COLUMN of_the_next_version TEXT"
        ));
    }
    let _ = fleet
        .cluster
        .sql("INSERT INTO migrations (version, checksum, applied_at) VALUES (9999, '', 0)");
    turn(&api, &session, &mut ledger, "beside it").await;
    let another = api.session(&ground).await.expect("a session");
    turn(&api, &another, &mut Ledger::default(), "anew").await;
    fleet.kill(0).await;
    is_refused(
        &fleet.launches[0],
        &["has schema 9999", "start the newer build"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_waits_for_every_server_and_names_the_one_without_the_next_key() {
    let without = |n, launch: Launch| match n {
        1 => launch.without("LONGHAND_MASTER_KEY_NEXT"),
        _ => launch,
    };
    let mut fleet = Fleet::with(3, without).await;
    let homes = [0, 1, 2].map(|n| fleet.launches[n].data_dir().to_owned());
    let refused = piped(&homes[0], &["keys", "master", "rotate"]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{said}");
    for words in [
        "the servers r1 have not taken up",
        "LONGHAND_MASTER_KEY_NEXT",
    ] {
        assert!(said.contains(words), "{said}");
    }
    // It says so to whoever asks whether it is ready; the others are.
    let Err(Failed::Refused { status, .. }) = fleet.api(1).get("/readyz").await else {
        panic!("it is ready");
    };
    assert_eq!(status, 503);
    let ready = |n| {
        let api = fleet.api(n);
        async move {
            api.connect()
                .await
                .expect("it listens")
                .exchange(&api.request("GET", "/readyz", None))
                .await
        }
    };
    let told = ready(1).await.expect("an answer");
    assert!(
        String::from_utf8_lossy(&told.body).contains("restart it with that"),
        "{told:?}"
    );
    assert_eq!(ready(2).await.expect("an answer").status, 200);
    // Restarted with it, it takes it up, and ends what was begun.
    fleet.kill(1).await;
    let url = fleet.cables[1].url();
    fleet.launches[1] = fleet.launch_on("r1", &url);
    fleet.restart(1).await;
    let homes = [0, 1, 2].map(|n| fleet.launches[n].data_dir().to_owned());
    for home in homes {
        wait::until("all to have the new key alone", || async {
            let shown = lines(&home, &["keys", "master", "show", "--json"]).await;
            (shown[0]["version"] == 2 && shown[0]["rotating"] == false).then_some(())
        })
        .await;
    }
}
