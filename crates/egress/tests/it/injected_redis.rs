//! Logins to a real Redis with a password that the client does not have.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;

use egress::audit::Action;
use egress::host::Orders;
use egress::inject::CredentialsFile;
use sandbox::Sandbox;
use tempfile::TempDir;

use crate::ground::{Ground, SERVER, on_ground, python, run, unrestricted};
use crate::injected::{credential, id, placeholder, sandbox};
use crate::programs::{Running, certificate, start};

const SECRET: &str = "pass/of+the-right_one";

/// What only a protocol with lengths can carry.
const ODD: &str = "line\r\nbreaks \0 \u{2603}";

/// Redis in clear text and in TLS, of which nobody but who has a password may say anything.
struct Redis {
    _running: Running,
    _home: TempDir,
}

fn redis(ground: &Ground) -> Redis {
    let home = tempfile::tempdir().unwrap();
    certificate(home.path(), &["allowed.test"]);
    let at = |name: &str| home.path().join(name).display().to_string();
    let config = format!(
        "bind {SERVER}\nport 6379\ntls-port 6380\ntls-auth-clients no\ntls-cert-file {}\ntls-key-file {}\n\
         save \"\"\nappendonly no\ndaemonize no\ndir {}\nlogfile {}\n\
         requirepass {SECRET}\nuser named on >{SECRET} ~* &* +@all\n",
        at("server.crt"),
        at("server.key"),
        home.path().display(),
        at("log"),
    );
    std::fs::write(home.path().join("redis.conf"), config).unwrap();
    let mut command = Command::new("redis-server");
    command.arg(home.path().join("redis.conf"));
    let running = start(ground, command, &[(SERVER, 6379), (SERVER, 6380)]);
    Redis {
        _running: running,
        _home: home,
    }
}

/// What Redis says to those commands of an administrator's, to each a line.
fn administer(ground: &Ground, commands: &[&[&str]]) {
    let mut conn = ground.among_servers(|| TcpStream::connect((SERVER, 6379)).unwrap());
    for command in [&["AUTH", SECRET][..]].iter().chain(commands) {
        let mut said = format!("*{}\r\n", command.len());
        for text in *command {
            said.push_str(&format!("${}\r\n{text}\r\n", text.len()));
        }
        conn.write_all(said.as_bytes()).unwrap();
        let mut answer = [0; 5];
        conn.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"+OK\r\n", "{command:?}");
    }
}

const CLI: &str = "redis-cli --no-auth-warning -h allowed.test";
const TLS: &str = "-p 6380 --tls --cacert $SSL_CERT_FILE";

#[test]
fn a_login_to_redis_is_done_with_the_secret_and_the_client_never_has_it() {
    on_ground(unrestricted(), |ground| async move {
        let _redis = redis(&ground);
        administer(
            &ground,
            &[&[
                "ACL",
                "SETUSER",
                "odd",
                "on",
                &format!(">{ODD}"),
                "~*",
                "+@all",
            ]],
        );
        let all = vec![
            credential(1, SECRET, Some(&["allowed.test"])),
            credential(2, ODD, Some(&["allowed.test"])),
        ];
        let sandbox = sandbox(&ground, "logs-in", all).await;
        for (login, user) in [
            ("-a $P", "default"),
            ("--user named --pass $P", "named"),
            ("-3 --user named --pass $P", "named"),
            ("--sni allowed.test --user odd --pass $P2", "odd"),
        ] {
            let whoami = format!("{CLI} {TLS} {login} ACL WHOAMI 2>&1");
            assert_eq!(run(&sandbox, &whoami).await, user, "{login}");
        }
        let hello = format!("{CLI} {TLS} HELLO 3 AUTH named $P SETNAME me 2>&1");
        let hello = run(&sandbox, &hello).await;
        assert!(hello.contains("proto") && hello.contains('3'), "{hello}");
        // A second login on a connection that was let in, and what it says of the password.
        let later = format!(
            "printf 'auth named %s\\nACL WHOAMI\\nCONFIG GET requirepass\\n' $P | {CLI} {TLS} 2>&1"
        );
        let later = run(&sandbox, &later).await;
        let masked = &placeholder(1)[..SECRET.len()];
        assert_eq!(later, format!("OK\nnamed\nrequirepass\n{masked}"));
        // What is no login is left as it is.
        let kept = format!(
            "{CLI} {TLS} -a $P SET kept $P >/dev/null; {CLI} {TLS} -a $P GET kept; {CLI} {TLS} -a $P ECHO AUTH"
        );
        assert_eq!(
            run(&sandbox, &kept).await,
            format!("{}\nAUTH", placeholder(1))
        );
        for wrong in ["wrong", &placeholder(3)] {
            let refused = run(&sandbox, &format!("{CLI} {TLS} -a {wrong} PING 2>&1")).await;
            assert!(refused.contains("WRONGPASS"), "{refused}");
        }
        let used = ground
            .recorded("is of the login", |it| {
                it.protocol == "redis" && it.credential == Some(id(1))
            })
            .await;
        assert_eq!(
            (used.action, used.name.as_deref()),
            (Action::Allowed, Some("allowed.test"))
        );
        for record in ground.audit() {
            assert!(!format!("{record:?}").contains("pass/of"), "{record:?}");
        }
    });
}

/// What Python programs here begin with: a connection in TLS, and what is told to commands that are sent in pieces.
const SPEAK: &str = "def to():\n    \
        return ssl.create_default_context().wrap_socket(socket.create_connection(('allowed.test', 6380), timeout=20), server_hostname='allowed.test')\n\
    def command(*texts):\n    \
        texts = [t if isinstance(t, bytes) else t.encode() for t in texts]\n    \
        return b'*%d\\r\\n' % len(texts) + b''.join(b'$%d\\r\\n%s\\r\\n' % (len(t), t) for t in texts)\n\
    def lines(s, count):\n    \
        got = b''\n    \
        while got.count(b'\\n') < count:\n        \
            part = s.recv(65536)\n        \
            if not part: break\n        \
            got += part\n    \
        return got.decode('latin1')\n\
    P = os.environ['P1']\n";

async fn speak(sandbox: &Arc<dyn Sandbox>, program: &str) -> String {
    python(sandbox, &format!("{SPEAK}{program}")).await
}

#[test]
fn commands_to_redis_are_read_wherever_they_are_cut_and_what_is_none_goes_no_further() {
    on_ground(unrestricted(), |ground| async move {
        let _redis = redis(&ground);
        let all = vec![credential(1, SECRET, Some(&["allowed.test"]))];
        let sandbox = sandbox(&ground, "cuts", all).await;
        // Each byte in a packet of its own, and then many commands in one, one of them long and full of what looks like
        // commands.
        let cut = speak(&sandbox, "s = to()\n\
            for byte in command('AUTH', 'named', P) + command('HELLO', '2', 'AUTH', 'named', P): s.sendall(bytes([byte]))\n\
            first = s.recv(5)\n\
            inner = command('AUTH', P) * 10000\n\
            s.sendall(command('SET', 'k', inner) + command('STRLEN', 'k') + b'PING\\r\\n' + command('AUTH', P) + command('ACL', 'WHOAMI'))\n\
            told = ''\n\
            while 'default' not in told: told += s.recv(65536).decode('latin1')\n\
            print(first, told.count('+OK'), ':%d' % len(inner) in told, '+PONG' in told)\n").await;
        assert_eq!(cut, "b'+OK\\r\\n' 2 True True");
        for wrong in [
            "b'*3x\\r\\n'",
            "b'*03\\r\\n'",
            "b'*1\\n$4\\r\\nPING\\r\\n'",
            "b'*1\\r\\n$-1\\r\\n'",
            "b'*1\\r\\nPING\\r\\n'",
            "b'*2\\r\\n$4\\r\\nAUTH\\r\\n$99999\\r\\n'",
            "b'*1 / HTTP/1.1\\r\\n\\r\\n'",
            "b'*1\\r\\n$' + b'1' * 70000",
        ] {
            let told = speak(
                &sandbox,
                &format!("s = to()\ns.sendall({wrong})\nprint(lines(s, 1))\n"),
            )
            .await;
            assert!(
                told.starts_with(
                    "-ERR longhand egress: allowed.test:6380 failed: the client speaks no Redis"
                ),
                "{wrong}: {told}"
            );
        }
        ground.denied("allowed.test", "protocol").await;
        // Requests over the same port are requests still.
        let http = run(
            &sandbox,
            "curl -sS --no-alpn --max-time 20 -o /dev/null -w '%{http_code}' https://allowed.test:6380/",
        )
        .await;
        assert!(http.ends_with("502"), "{http}");
    });
}

#[test]
fn no_secret_goes_to_redis_in_clear_text_unless_the_operator_allows_that() {
    on_ground(unrestricted(), |ground| async move {
        let _redis = redis(&ground);
        let all = vec![credential(1, SECRET, Some(&["allowed.test"]))];
        let strict = sandbox(&ground, "strict", all.clone()).await;
        let ping = format!("{CLI} -p 6379 -a $P PING 2>&1");
        let refused = run(&strict, &ping).await;
        assert!(refused.contains("over TLS only"), "{refused}");
        ground.denied("allowed.test", "credentials").await;
        // Without it the connection is as any other.
        let bare = run(&strict, &format!("{CLI} -p 6379 PING 2>&1")).await;
        assert!(bare.contains("NOAUTH"), "{bare}");

        *ground.credentials.lock().unwrap() = CredentialsFile {
            cleartext: true,
            credentials: all,
        };
        let lenient = ground.sandbox("lenient").await;
        let ping = format!("{CLI} -p 6379 -a $P1 PING 2>&1");
        assert_eq!(run(&lenient, &ping).await, "PONG");
    });
}

/// A password that comes later.
const LATER: &str = "pass/of+the_later-one";

#[test]
fn each_login_to_redis_is_done_with_what_the_credential_is_by_then() {
    on_ground(unrestricted(), |ground| async move {
        let _redis = redis(&ground);
        let user = [
            "ACL",
            "SETUSER",
            "later",
            "on",
            &format!(">{LATER}"),
            "~*",
            "+@all",
        ];
        administer(&ground, &[&user, &["SET", "told", LATER]]);
        let hosts: Option<&[&str]> = Some(&["allowed.test"]);
        let sandbox = sandbox(&ground, "later", vec![credential(1, SECRET, hosts)]).await;
        // Behind each file that there is, one login more on the same connection.
        let first = speak(&sandbox, "s = to()\n\
            s.sendall(command('AUTH', P) + command('PING'))\n\
            print(repr(lines(s, 2)), flush=True)\n\
            if os.fork() == 0:\n    \
                os.setsid()\n    \
                for end in range(3): os.dup2(os.open('/dev/null', os.O_RDWR), end)\n    \
                for (name, said, count) in (('none', command('AUTH', P), 1), ('later', command('AUTH', 'later', P) + command('GET', 'told') + command('CONFIG', 'GET', 'requirepass'), 8)):\n        \
                    while not os.path.exists('/tmp/' + name): time.sleep(0.02)\n        \
                    s.sendall(said)\n        \
                    told = lines(s, count)\n        \
                    with open('/tmp/told', 'w') as to: to.write(told)\n        \
                    os.rename('/tmp/told', '/tmp/told-' + name)\n    \
                os._exit(0)\n").await;
        assert_eq!(first, "'+OK\\r\\n+PONG\\r\\n'");
        let told = async |name: &str| {
            let told = format!(
                "touch /tmp/{name}; until [ -e /tmp/told-{name} ]; do sleep 0.02; done; cat /tmp/told-{name}"
            );
            run(&sandbox, &told).await
        };
        let policy = unrestricted();
        ground.set_policy("later", &policy).await;
        let archived = told("none").await;
        assert!(archived.starts_with("-WRONGPASS"), "{archived}");
        let file = CredentialsFile {
            cleartext: false,
            credentials: vec![credential(1, LATER, hosts)],
        };
        let orders = Orders {
            policy: &policy,
            credentials: &file,
        };
        ground.set_policy("later", orders).await;
        // What the server was told first is not said either.
        let masked = &placeholder(1)[..LATER.len()];
        assert_eq!(LATER.len(), SECRET.len());
        let rotated = told("later").await;
        assert!(rotated.starts_with("+OK"), "{rotated}");
        assert_eq!(rotated.matches(masked).count(), 2, "{rotated}");
        assert!(!rotated.contains("pass/of"), "{rotated}");
        let used = ground
            .recorded("is of that connection", |it| it.protocol == "redis")
            .await;
        assert_eq!(used.credential, Some(id(1)), "{used:?}");
    });
}

#[test]
fn a_connection_to_redis_that_ends_in_a_malformed_command_is_recorded_with_what_it_spent() {
    on_ground(unrestricted(), |ground| async move {
        let _redis = redis(&ground);
        let all = vec![credential(1, SECRET, Some(&["allowed.test"]))];
        let sandbox = sandbox(&ground, "malformed", all).await;
        let told = speak(
            &sandbox,
            "s = to()\n\
            s.sendall(command('AUTH', P))\n\
            print(lines(s, 1))\n\
            s.sendall(b'*+1\\r\\n')\n\
            print(lines(s, 1))\n",
        )
        .await;
        assert!(
            told.starts_with("+OK") && told.contains("speaks no Redis"),
            "{told}"
        );
        let spent = ground
            .recorded("is of the login", |it| it.credential == Some(id(1)))
            .await;
        assert_eq!(spent.protocol, "redis");
        assert!(spent.bytes_out > 0 && spent.bytes_in > 0, "{spent:?}");
        let denied = ground.denied("allowed.test", "protocol").await;
        assert!(denied.reason.contains("malformed"), "{denied:?}");
    });
}
