//! What happens to what is open when a policy changes, or when the egress process goes and comes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use crate::ground::{
    SERVER, echo, hello, limited, on_ground, policy, python, tls_hello, unrestricted, until,
};

#[test]
fn tls_to_an_allowed_host_is_passed_on_as_it_is_and_only_with_its_own_name() {
    on_ground(limited(&["allowed.test"]), |ground| async move {
        let server = ground.server(SERVER, 443, tls_hello);
        let sandbox = ground.sandbox("tls").await;
        let said = python(
            &sandbox,
            "print(tls('allowed.test'), tls('ALLOWED.test.', name='Allowed.Test'))",
        )
        .await;
        assert_eq!(said, "hello hello");
        assert_eq!(server.text(), "hellohello");
        ground.name("other.test", &[SERVER]);
        // An allowed name in the hello does not open another host, nor another name in it this one.
        let said = python(
            &sandbox,
            "print(tls('allowed.test', name='other.test'), tls('other.test', name='allowed.test'))",
        )
        .await;
        assert_eq!(said, "TLSV1_UNRECOGNIZED_NAME TLSV1_ALERT_ACCESS_DENIED");
        ground.denied("allowed.test", "names").await;
        assert_eq!(server.text(), "hellohello");
    });
}

#[test]
fn a_change_of_policy_ends_what_it_no_longer_allows_and_leaves_the_rest() {
    on_ground(unrestricted(), |ground| async move {
        let _echoes = ground.server(SERVER, 7000, |mut stream, _| {
            let mut buffer = [0; 64];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                let _ = stream.write_all(&buffer[..length]);
            }
        });
        ground.name("kept.test", &[SERVER]);
        let sandbox = ground.sandbox("changes").await;
        // Two connections that stand open until a file appears.
        let program = "a, b = socket.create_connection(('allowed.test', 7000)), socket.create_connection(('kept.test', 7000))\n\
            for s in (a, b): s.settimeout(20); s.sendall(b'x\\n'); s.recv(2)\n\
            open('/workspace/open', 'w').close()\n\
            while not os.path.exists('/workspace/changed'): time.sleep(0.01)\n\
            def again(s):\n    \
                def go(): s.sendall(b'y\\n'); return s.recv(2)\n    \
                return tried(go)\n\
            print(again(a), again(b), tcp('allowed.test', 7000, b'z\\n'))\n";
        let side = ground.clone();
        let mut changing = tokio::task::JoinSet::new();
        changing.spawn(async move {
            let opened = side.dir.path().join("sandboxes");
            until("both are open", || {
                let opened = opened.clone();
                async move { find(&opened, "open").is_some() }
            })
            .await;
            let only = policy("[[rules]]\nname = 'kept'\naction = 'allow'\nto = ['kept.test']\n");
            side.set_policy("changes", &only).await;
            // Its shell is busy with the program.
            let open = find(&side.dir.path().join("sandboxes"), "open").unwrap();
            std::fs::write(open.with_file_name("changed"), "").unwrap();
        });
        let said = python(&sandbox, program).await;
        changing.join_next().await.unwrap().unwrap();
        assert_eq!(said, "ECONNRESET b'y\\n' ECONNRESET");
        let record = ground
            .recorded("was ended", |it| {
                it.reason.contains("ended by a change of policy")
            })
            .await;
        assert_eq!(record.name.as_deref(), Some("allowed.test"));
    });
}

/// The file of that name anywhere below.
fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(dir).ok()?.flatten().find_map(|entry| {
        if entry.file_name() == name {
            return Some(entry.path());
        }
        // Links of a root lead out of here.
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        is_dir.then(|| find(&entry.path(), name)).flatten()
    })
}

#[test]
fn a_policy_that_cannot_be_read_allows_nothing() {
    on_ground(unrestricted(), |ground| async move {
        let server = ground.serve(SERVER, 80, hello);
        let sandbox = ground.sandbox("broken").await;
        let broken = limited(&["not a host"]);
        let error = ground
            .carrier
            .set_policy("broken", &broken)
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("networking.allowed_hosts[0]"),
            "{error}"
        );
        let said = python(&sandbox, "print(http('allowed.test')[:12])").await;
        assert_eq!((said.as_str(), server.connections()), ("HTTP/1.1 403", 0));
    });
}

#[test]
pub fn without_the_egress_process_nothing_is_carried_and_the_next_one_goes_on() {
    on_ground(unrestricted(), |ground| async move {
        let server = ground.serve(SERVER, 7000, echo);
        let sandbox = ground.sandbox("restart").await;
        let say = "print(tcp('allowed.test', 7000, b'x\\n'))";
        assert_eq!(python(&sandbox, say).await, "x");
        ground.end_host();
        until("nobody answers", || async {
            ground
                .carrier
                .explain("restart", "http://allowed.test/", "GET")
                .await
                .is_err()
        })
        .await;
        // Who asks is told at once, in every way: the times are only there to end a test that has failed.
        let asked = "def to(*a):\n    \
                def go():\n        \
                    s = socket.create_connection(a, timeout=60); s.sendall(b'y\\n'); return s.recv(1)\n    \
                return tried(go)\n\
            print(to('198.51.100.10', 7000), to('2001:db8:1::10', 443), to('198.18.0.1', 80), tcp('new.test', 80))\n";
        until("who connects is reset", || async {
            python(&sandbox, asked).await == "ECONNRESET ECONNRESET ECONNRESET EAI -3"
        })
        .await;
        assert_eq!(
            (server.connections(), ground.lookups.load(Ordering::SeqCst)),
            (1, 1)
        );
        ground.begin_host();
        // Names are given out anew; what it is told of sandboxes is told again.
        until("it carries again", || async {
            python(&sandbox, say).await == "x"
        })
        .await;
        let explained = ground
            .carrier
            .explain("restart", "http://10.0.0.5/", "GET")
            .await
            .unwrap();
        assert!(
            !explained.allowed && explained.rule == "always-denied",
            "{explained:?}"
        );
    });
}

/// Answers until the client goes.
fn held(mut stream: TcpStream, _: &Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0; 64];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        let _ = stream.write_all(&buffer[..length]);
    }
}

#[test]
fn ten_thousand_connections_of_one_sandbox_are_bounded_and_the_rest_is_told_at_once() {
    on_ground(unrestricted(), |ground| async move {
        let _echoes = ground.server(SERVER, 7000, held);
        let sandbox = ground.sandbox("many").await;
        let program = "import resource; most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]; resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))\n\
            held, told = [], {}\n\
            def one():\n    \
                s = socket.create_connection(('198.51.100.10', 7000), timeout=60); s.sendall(b'x\\n'); s.recv(2); return s\n\
            for n in range(10000):\n    \
                s = tried(one)\n    \
                if isinstance(s, str): told[s] = told.get(s, 0) + 1\n    \
                else: held.append(s)\n\
            print(len(held), sum(told.values()), sorted(told))\n\
            del held[:], s\n\
            until = time.monotonic() + 30\n\
            while isinstance(tried(one), str) and time.monotonic() < until: pass\n\
            print(isinstance(tried(one), socket.socket))\n";
        let said = python(&sandbox, program).await;
        let (counts, after) = said.split_once('\n').unwrap();
        let numbers: Vec<usize> = counts
            .split(' ')
            .take(2)
            .map(|n| n.parse().unwrap())
            .collect();
        assert!(
            (100..=egress::limits::FLOWS).contains(&numbers[0]),
            "{said}"
        );
        assert_eq!(numbers[0] + numbers[1], 10_000, "{said}");
        assert!(counts.ends_with("['ECONNRESET']"), "{said}");
        assert_eq!(after, "True", "when they are gone there is room again");
        ground
            .recorded("says that there is no room", |it| it.rule == "connections")
            .await;
    });
}

#[test]
fn connections_of_all_sandboxes_are_bounded_by_the_files_that_the_process_may_open() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // This process is the egress process, and its servers' too.
    let few = Rlimit {
        current: Some(700),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    setrlimit(Resource::Nofile, few).unwrap();
    // Three quarters of what is left beside its own, two a connection.
    let most = (700 - usize::try_from(egress::limits::OTHER_FILES).unwrap()) / 4 * 3 / 2;
    on_ground(unrestricted(), |ground| async move {
        let _echoes = ground.server(SERVER, 7000, held);
        let program = "held = []\n\
            def one():\n    \
                s = socket.create_connection(('198.51.100.10', 7000), timeout=60); s.sendall(b'x\\n'); assert s.recv(2); return s\n\
            tries = [tried(one) for _ in range(100)]\n\
            print(sum(not isinstance(s, str) for s in tries), sorted({s for s in tries if isinstance(s, str)}), flush=True)\n";
        // The first holds its own while the second one tries.
        let first = ground.sandbox("first").await;
        let second = ground.sandbox("second").await;
        let side = Arc::clone(&first);
        let waits = format!(
            "{program}open('/workspace/has', 'w').close()\nwhile not os.path.exists('/workspace/go'): time.sleep(0.01)\n"
        );
        let mut holding = tokio::task::JoinSet::new();
        holding.spawn(async move { python(&side, &waits).await });
        let sandboxes = ground.dir.path().join("sandboxes");
        until("the first has its connections", || {
            let has = find(&sandboxes, "has").is_some();
            async move { has }
        })
        .await;
        let said = python(&second, program).await;
        assert_eq!(said, format!("{} ['ECONNRESET']", most - 100));
        let denied = ground
            .recorded("says that there is no room", |it| it.rule == "connections")
            .await;
        assert!(denied.reason.contains("all together"), "{denied:?}");
        let has = find(&sandboxes, "has").unwrap();
        std::fs::write(has.with_file_name("go"), "").unwrap();
        let said = holding.join_next().await.unwrap().unwrap();
        assert_eq!(said, "100 []");
        // Theirs are free again.
        until("there is room again", || async {
            python(&second, program).await == "100 []"
        })
        .await;
    });
}
