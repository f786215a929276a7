//! Where a secret must never be and what no secret may do, case by case, from inside a real sandbox. Each place that is
//! searched is searched for something planted too, which is found.

use std::sync::Arc;

use egress::audit::Action;
use egress::inject::CredentialsFile;
use sandbox::Sandbox;

use crate::ground::{OTHER, SERVER, hello, on_ground, python, run, unrestricted};
use crate::injected::{base64, credential, mirrored, placeholder, sandbox};
use crate::upstreams::{BOTH, ONE, Shown, TWO, http, https};

/// Shorter than a placeholder, so that whatever had it shows by its length.
const SECRET: &str = "sk-live/42+secret";

/// What finds a secret that begins so, and not itself.
const SEARCHED: &str = "sk-[l]ive/42";

/// Most bytes of a secret, which is the contract's.
const LONGEST: usize = contract::limits::SECRET_BYTES;

/// What Python programs here begin with: TLS to a name, and what is told after a request.
const SPEAK: &str = "import base64\n\
    P = os.environ['P1']\n\
    def to(name, port=443, sni=None):\n    \
        return ssl.create_default_context().wrap_socket(socket.create_connection((name, port), timeout=20), server_hostname=sni or name)\n\
    def ask(s, *parts):\n    \
        for part in parts:\n        \
            s.sendall(part if isinstance(part, bytes) else part.encode())\n        \
            time.sleep(0.05)\n    \
        return told(s)\n";

async fn speak(sandbox: &Arc<dyn Sandbox>, program: &str) -> String {
    python(sandbox, &format!("{SPEAK}{program}")).await
}

#[test]
fn a_secret_that_a_server_says_again_is_the_placeholder_wherever_it_stands() {
    on_ground(unrestricted(), |ground| async move {
        let _both = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let _one = ground.server(SERVER, 8443, https(ONE, Shown::Good));
        let all = vec![credential(1, SECRET, Some(&["allowed.test"]))];
        let sandbox = sandbox(&ground, "reflects", all).await;
        let there = placeholder(1);
        for version in ["--http1.1", "--http2"] {
            for port in ["443", "8443"] {
                let base = format!(
                    "{version} -sS --max-time 60 -i -H 'TE: trailers' https://allowed.test:{port}"
                );
                let cookie = format!("curl {base}/reflect -H \"X-Told: $P\" -b \"session=$P\"");
                let cookie = run(&sandbox, &cookie).await;
                assert!(
                    cookie.contains(&format!("set-cookie: session={there}")),
                    "{cookie}"
                );
                assert!(
                    cookie.contains(&format!("location: https://other.test/?{there}")),
                    "{cookie}"
                );
                let tail = run(&sandbox, &format!("curl {base}/tail -H \"X-Told: $P\"")).await;
                let (_, trailers) = tail.split_once("body").expect(&tail);
                assert!(
                    trailers.contains(&format!("x-told: {there}")),
                    "{version} {port}: {tail}"
                );
                for shown in [cookie, tail] {
                    assert!(!shown.contains("sk-live"), "{shown}");
                }
            }
        }
        // In a frame as many bytes of it; what the program sends goes out as it is, and comes back so.
        let frames = speak(&sandbox, "s = to('allowed.test', 8443)\n\
            s.sendall(('GET /ws HTTP/1.1\\r\\nHost: allowed.test:8443\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\nSec-WebSocket-Version: 13\\r\\n'\n    \
                'Sec-WebSocket-Key: ' + base64.b64encode(b'x' * 16).decode() + '\\r\\nX-Told: ' + P + '\\r\\n\\r\\n').encode())\n\
            got = b''\n\
            while b'\\r\\n\\r\\n' not in got: got += s.recv(1)\n\
            def frame():\n    \
                head = s.recv(1) + s.recv(1)\n    \
                body = b''\n    \
                while len(body) < head[1]: body += s.recv(head[1] - len(body))\n    \
                return body.decode()\n\
            print(frame())\n\
            s.sendall(bytes([0x81, 0x80 | len(P)]) + b'\\0' * 4 + P.encode())\n\
            print(frame())\n").await;
        let masked = &there[..SECRET.len()];
        assert_eq!(frames, format!("{masked}\n{there}"));
    });
}

#[test]
fn a_secret_that_a_server_keeps_is_not_read_back_in_pieces() {
    on_ground(unrestricted(), |ground| async move {
        let _both = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let _one = ground.server(SERVER, 8443, https(ONE, Shown::Good));
        let all = vec![credential(1, SECRET, Some(&["allowed.test"]))];
        let sandbox = sandbox(&ground, "pieces", all).await;
        let there = placeholder(1);
        let pieces = [
            "-r 0-9",
            "-H 'Request-Range: bytes=0-9'",
            "-H 'x-ms-range: bytes=10-'",
        ];
        for (version, port) in [("--http1.1", 443), ("--http1.1", 8443), ("--http2", 443)] {
            let base = format!("{version} -sS --max-time 60");
            let at = format!("https://allowed.test:{port}");
            let put = format!("curl {base} -H 'Content-Type: text/plain' -T - {at}/kept/whole");
            assert_eq!(run(&sandbox, &format!("printf %s $P | {put}")).await, "");
            for piece in pieces {
                // Whoever asks for a piece has the whole, in which the secret is found.
                let got = format!("curl {base} {piece} -w ' %{{http_code}}' {at}/kept/whole");
                assert_eq!(run(&sandbox, &got).await, format!("{there} 200"), "{got}");
                let told = format!("{version} {piece} -H 'If-Range: \"x\"' {at}/mirror");
                let told = mirrored(&sandbox, &told).await;
                assert!(!told.contains("range"), "{told}");
            }
            // A server that answers with one all the same is not heard.
            let got = format!(
                "curl {base} -w '%{{stderr}}%{{http_code}} %header{{x-longhand-egress-rule}}' {at}/kept/pieces 2>&1 >/dev/null"
            );
            assert_eq!(run(&sandbox, &got).await, "502 credentials", "{got}");
            let refused = ground.denied("allowed.test", "credentials").await;
            assert!(refused.reason.contains("in pieces"), "{refused:?}");
            let offered = format!("curl {base} -I {at}/kept/whole");
            let offered = run(&sandbox, &offered).await;
            assert!(!offered.contains("accept-ranges"), "{offered}");
        }
        // The control: nothing of ours has seen the value, which can be had so.
        let policy = unrestricted();
        ground.set_policy("pieces", &policy).await;
        let got = "for r in 0-9 10-; do curl -k -sS --max-time 60 -r $r https://allowed.test/kept/whole; done";
        assert_eq!(run(&sandbox, got).await, SECRET);
    });
}

#[test]
fn a_secret_is_in_no_variable_argument_file_or_memory_of_the_sandbox() {
    on_ground(unrestricted(), |ground| async move {
        let _server = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let all = vec![credential(1, SECRET, Some(&["allowed.test"]))];
        let sandbox = sandbox(&ground, "nowhere", all).await;
        // A program that has used it, has kept what came back, and still runs.
        let kept = "cd /workspace && curl -sS --max-time 60 -H \"X-Told: $P\" -d \"$P\" -D head -o body https://allowed.test/reflect && \
            (/usr/bin/python3 -c 'import os, sys, time, urllib.request as u; \
            asked = u.Request(\"https://allowed.test/echo\", os.environ[\"P1\"].encode(), {\"X-Told\": os.environ[\"P1\"]}); \
            kept = u.urlopen(asked).read(); open(\"/workspace/ready\", \"w\").write(kept.decode()); time.sleep(600)' $P >/dev/null 2>&1 &) ; \
            until [ -s /workspace/ready ]; do sleep 0.02; done; cat /workspace/ready";
        assert_eq!(run(&sandbox, kept).await, placeholder(1));
        assert_eq!(search(&sandbox).await, "", "nothing has it");
        // The control: one of each.
        let planted = "printf %s 'sk-'live/42+planted >/workspace/planted; \
            PLANTED=$(cat /workspace/planted) sleep 600 >/dev/null 2>&1 & \
            until grep -qz '^600$' /proc/$!/cmdline; do :; done; \
            sh -c 'sleep 600; :' $(cat /workspace/planted) >/dev/null 2>&1 & \
            until grep -qz '^sleep 600; :$' /proc/$!/cmdline; do :; done; \
            (/usr/bin/python3 -c 'import time; kept = open(\"/workspace/planted\").read(); open(\"/workspace/held\", \"w\").write(\"x\"); time.sleep(600)' >/dev/null 2>&1 &); \
            until [ -s /workspace/held ]; do sleep 0.02; done; echo planted";
        assert_eq!(run(&sandbox, planted).await, "planted");
        let found = search(&sandbox).await;
        for place in ["environ", "cmdline", "/workspace/planted", "memory python3"] {
            assert!(found.contains(place), "{place} is not among {found}");
        }
    });
}

/// The places inside that have something that begins like the secret.
async fn search(sandbox: &Arc<dyn Sandbox>) -> String {
    let program = format!(
        "import re\n\
        wanted = re.compile(rb'{SEARCHED}')\n\
        for pid in filter(str.isdigit, os.listdir('/proc')):\n    \
            try:\n        \
                name = open('/proc/%s/comm' % pid).read().strip()\n        \
                for what in ('environ', 'cmdline'):\n            \
                    if wanted.search(open('/proc/%s/%s' % (pid, what), 'rb').read()): print(what, name)\n        \
                if int(pid) == os.getpid(): continue\n        \
                with open('/proc/%s/mem' % pid, 'rb', 0) as memory:\n            \
                    for line in open('/proc/%s/maps' % pid):\n                \
                        parts = line.split()\n                \
                        if 'rw' not in parts[1]: continue\n                \
                        start, end = (int(x, 16) for x in parts[0].split('-'))\n                \
                        try:\n                    \
                            memory.seek(start); part = memory.read(end - start)\n                \
                        except (OSError, OverflowError, ValueError): continue\n                \
                        if wanted.search(part): print('memory', name); break\n    \
            except OSError: pass\n\
        for base, dirs, files in os.walk('/'):\n    \
            dirs[:] = [d for d in dirs if os.path.join(base, d) not in ('/proc', '/sys', '/usr', '/dev')]\n    \
            for name in files:\n        \
                path = os.path.join(base, name)\n        \
                try:\n            \
                    if os.path.isfile(path) and wanted.search(open(path, 'rb').read()): print(path)\n        \
                except OSError: pass\n"
    );
    python(sandbox, &program).await
}

#[test]
fn a_secret_breaks_out_of_nothing_that_it_is_put_into() {
    on_ground(unrestricted(), |ground| async move {
        let server = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let hosts: Option<&[&str]> = Some(&["allowed.test"]);
        let breaking = "a\r\nX-Injected: 1\r\n\r\nGET /other HTTP/1.1\0";
        let all = vec![
            credential(1, breaking, hosts),
            credential(2, &"s".repeat(LONGEST), hosts),
            credential(3, "naïve ☃ secret", hosts),
        ];
        let sandbox = sandbox(&ground, "breaks", all).await;
        let asked = |what: &str| {
            format!(
                "curl -sS --max-time 60 -o /dev/null -w '%{{http_code}} %header{{x-longhand-egress-rule}}' {what} https://allowed.test/mirror"
            )
        };
        for version in ["--http1.1", "--http2"] {
            for header in ["X-Told: $P", "Authorization: Bearer $P"] {
                let refused = run(&sandbox, &asked(&format!("{version} -H \"{header}\""))).await;
                assert_eq!(refused, "403 credentials", "{version} {header}");
            }
        }
        let refused = ground.denied("allowed.test", "credentials").await;
        assert!(
            refused.reason.contains("line breaks") && !refused.reason.contains("Injected"),
            "{refused:?}"
        );
        assert!(!server.text().contains("/other"), "{}", server.text());
        // Where it can stand, it stands as that place writes it.
        let query = mirrored(&sandbox, "\"https://allowed.test/mirror?$P\"").await;
        assert!(
            query.contains("?a%0D%0AX-Injected%3A%201%0D%0A%0D%0AGET%20%2Fother%20HTTP%2F1.1%00"),
            "{query}"
        );
        let json = mirrored(
            &sandbox,
            "--json \"\\\"$P\\\"\" https://allowed.test/mirror",
        )
        .await;
        assert!(
            json.contains("\"a\\r\\nX-Injected: 1\\r\\n\\r\\nGET /other HTTP/1.1\\u0000\""),
            "{json}"
        );
        let raw = "curl -sS --max-time 60 -H 'Content-Type: text/plain' -d \"$P\" https://allowed.test/count";
        assert_eq!(run(&sandbox, raw).await, breaking.len().to_string());
        // The longest of them, and one beyond ASCII; in a body that is no text either.
        let long = "printf '%s\\377\\0%s' $P2 $P2 | curl -sS --max-time 60 -H 'Content-Type: application/octet-stream' --data-binary @- https://allowed.test/count";
        assert_eq!(run(&sandbox, long).await, (2 * LONGEST + 2).to_string());
        let beyond = mirrored(&sandbox, "-H 'Content-Type: text/plain' -H \"X-Told: $P3\" -d \"$P3\" https://allowed.test/mirror").await;
        assert!(
            beyond.contains("x-told: naïve ☃ secret") && beyond.ends_with("naïve ☃ secret"),
            "{beyond}"
        );
        // A server that wants no such header says so itself; nothing of it is in what the program is told.
        let too_long = run(&sandbox, "curl -sS --max-time 60 -H \"X-Told: $P2\" https://allowed.test/mirror 2>&1 | head -c 300").await;
        assert!(!too_long.contains("ssssssss"), "{too_long}");
    });
}

#[test]
fn a_forged_name_takes_no_secret_to_another_host() {
    on_ground(unrestricted(), |ground| async move {
        let right = ground.server(SERVER, 443, https(TWO, Shown::Good));
        let _clear = ground.server(SERVER, 80, http());
        let other = ground.server(OTHER, 443, https(BOTH, Shown::Good));
        let other_clear = ground.serve(OTHER, 80, hello);
        let all = vec![credential(1, SECRET, Some(&["allowed.test"]))];
        let sandbox = sandbox(&ground, "forges", all).await;
        // To the wrong server under the right name, in whatever way it is said: the name that was dialled counts, and
        // what is not looked into goes as it is.
        let told = "curl -sS --max-time 60 -k -w ' %{http_code}' -H \"X-Told: $P\"";
        for (what, ends) in [
            (
                "--http1.1 -H 'Host: allowed.test' https://other.test/mirror",
                &["200"][..],
            ),
            (
                "--http2 -H 'Host: allowed.test' https://other.test/mirror",
                &["200"],
            ),
            ("-H 'Host: allowed.test' http://other.test/mirror", &["421"]),
            (
                "--http1.1 -H 'Host: other.test' https://allowed.test/mirror",
                &["421"],
            ),
            (
                "--http2 -H 'Host: other.test' https://allowed.test/mirror",
                &["421"],
            ),
            (
                "--connect-to allowed.test:443:other.test:443 https://allowed.test/mirror",
                &["000", "421"],
            ),
            (
                "--resolve allowed.test:443:203.0.113.10 https://allowed.test/mirror",
                &["000", "200", "421"],
            ),
        ] {
            let told = run(&sandbox, &format!("{told} {what}")).await;
            assert!(ends.iter().any(|end| told.ends_with(end)), "{what}: {told}");
            let forwards: String = told.chars().rev().collect();
            assert!(
                !told.contains("sk-live") && !forwards.contains("sk-live"),
                "{what}: {told}"
            );
        }
        // One connection, two origins.
        let reused = speak(&sandbox, "s = to('allowed.test')\n\
            print(ask(s, 'GET /told HTTP/1.1\\r\\nHost: allowed.test\\r\\nX-Told: ' + P + '\\r\\n\\r\\n', \
            'GET /told HTTP/1.1\\r\\nHost: other.test\\r\\nConnection: close\\r\\nX-Told: ' + P + '\\r\\n\\r\\n'))").await;
        assert!(
            reused.contains("HTTP/1.1 200") && reused.contains("HTTP/1.1 421"),
            "{reused}"
        );
        for told in [other.text(), other_clear.text(), right.text(), reused] {
            assert!(!told.contains("sk-live"), "{told}");
        }
        let refused = ground
            .recorded("is of a forged name", |it| {
                it.rule == "names" && it.action == Action::Denied
            })
            .await;
        assert_eq!(refused.credential, None, "{refused:?}");
    });
}

#[test]
fn a_placeholder_is_found_however_it_is_cut_and_left_where_it_is_not_looked_for() {
    on_ground(unrestricted(), |ground| async move {
        let _server = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let all = vec![credential(1, SECRET, Some(&["allowed.test"]))];
        let sandbox = sandbox(&ground, "cuts", all).await;
        let there = placeholder(1);
        let backwards = |text: &str| text.chars().rev().collect::<String>();
        // The head and the body in packets that end within the placeholder.
        let split = speak(&sandbox, "head = 'POST /mirror HTTP/1.1\\r\\nHost: allowed.test\\r\\nConnection: close\\r\\nContent-Type: text/plain\\r\\nContent-Length: 44\\r\\nX-Told: '\n\
            print(ask(to('allowed.test'), head + P[:3], P[3:20], P[20:] + '\\r\\n\\r\\n' + P[:30], P[30:]))").await;
        assert!(
            split.contains(&backwards(&format!("x-told: {SECRET}"))),
            "{split}"
        );
        assert!(
            split.contains(&backwards(&format!("content-length: {}", SECRET.len()))),
            "{split}"
        );
        // Every byte a chunk of its own, and one field behind the body, which is no place for it.
        let chunks = speak(&sandbox, "head = 'POST /mirror HTTP/1.1\\r\\nHost: allowed.test\\r\\nConnection: close\\r\\nContent-Type: text/plain\\r\\nTransfer-Encoding: chunked\\r\\nTrailer: X-Tail\\r\\n\\r\\n'\n\
            print(ask(to('allowed.test'), head, ''.join('1\\r\\n%s\\r\\n' % c for c in 'a' + P + 'b'), '0\\r\\nX-Tail: ' + P + '\\r\\n\\r\\n'))").await;
        assert!(
            chunks.contains(&backwards(&format!("a{SECRET}b"))),
            "{chunks}"
        );
        assert!(
            !chunks.contains(&backwards(&format!("x-tail: {SECRET}"))),
            "{chunks}"
        );
        // The name of a header, which is passed on in lower case.
        for version in ["--http1.1", "--http2"] {
            let named = mirrored(
                &sandbox,
                &format!("{version} -H \"$P: told\" https://allowed.test/mirror"),
            )
            .await;
            let name = there.to_lowercase();
            assert!(
                named.contains(&format!("{name}: told")),
                "{version}: {named}"
            );
        }
        // Paths and packed bodies of another kind.
        let packed =
            "curl -sS --max-time 60 -H 'Content-Encoding: br' -d \"$P\" https://allowed.test/count";
        assert_eq!(run(&sandbox, packed).await, there.len().to_string());
        let encoded = "printf %s \"$P\" | base64 -w 0 | curl -sS --max-time 60 --data-binary @- https://allowed.test/mirror | rev";
        let encoded = run(&sandbox, encoded).await;
        assert!(encoded.ends_with(&base64(&there)), "{encoded}");
        let path = "curl -sS --max-time 60 \"https://allowed.test/at/$P\"";
        let path = run(&sandbox, path).await;
        assert!(path.contains(&format!("hello /at/{there}")), "{path}");
        // Deflated it is found, and goes on unpacked.
        let deflated = "/usr/bin/python3 -c \"import os, sys, zlib; sys.stdout.buffer.write(zlib.compress(('deflated ' + os.environ['P1']).encode()))\" | \
            curl -sS --max-time 60 -H 'Content-Encoding: deflate' -H 'Content-Type: text/plain' --data-binary @- https://allowed.test/mirror | rev";
        let deflated = run(&sandbox, deflated).await;
        assert!(
            deflated.ends_with(&format!("deflated {SECRET}")),
            "{deflated}"
        );
    });
}

#[test]
fn a_secret_longer_than_any_credential_may_have_is_not_taken_from_the_server_either() {
    let lent = |secret: &str| {
        let file = CredentialsFile {
            cleartext: false,
            credentials: vec![credential(1, secret, None)],
        };
        file.check()
    };
    // Each byte of it takes six in what is sealed.
    assert_eq!(lent(&"\u{1}".repeat(LONGEST)), Ok(()));
    let problem = lent(&"s".repeat(1 << 20)).unwrap_err();
    assert!(
        problem.contains("its secret is too long") && !problem.contains("ssss"),
        "{problem}"
    );
}
