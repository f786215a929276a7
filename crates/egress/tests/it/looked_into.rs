//! TLS that a rule has to see inside: it is looked into, request by request; everything else is passed on as it is.

use egress::audit::{Action, Kind};

use crate::ground::{SERVER, on_ground, policy, python, run, unrestricted};
use crate::upstreams::{BOTH, ONE, Shown, TWO, https};

/// Everything is allowed but one path of one host, which makes that host's TLS be looked into.
const RULES: &str = "networking = { type = 'unrestricted' }\n\
    [[rules]]\nname = 'no secrets'\naction = 'deny'\nto = ['allowed.test']\npaths = ['/secret']\n\
    [[rules]]\nname = 'one tool'\naction = 'allow'\nto = ['tools.test']\nports = [443]\nmcp_tools = ['read']\n\
    [[rules]]\nname = 'no other tool'\naction = 'deny'\nto = ['tools.test']\n";

#[test]
fn requests_inside_tls_are_judged_over_http_1_and_2_and_both_versions_of_tls() {
    on_ground(policy(RULES), |ground| async move {
        let (both, one, two) = (
            ground.server(SERVER, 443, https(BOTH, Shown::Good)),
            ground.server(SERVER, 8443, https(ONE, Shown::Good)),
            ground.server(SERVER, 9443, https(TWO, Shown::Good)),
        );
        let sandbox = ground.sandbox("inside").await;
        let program = r#"
for (port, version) in ((443, '--http1.1'), (443, '--http2'), (8443, '--http1.1'), (8443, '--http2'), (9443, '--http1.1'), (9443, '--http2'), (443, '--tls-max 1.2'), (443, '--tlsv1.3')):
    import subprocess
    base = 'https://allowed.test' + ('' if port == 443 else ':%d' % port)
    curl = lambda path, more='': subprocess.run('curl -sS --max-time 30 %s %s %s%s' % (version, more, base, path), shell=True, capture_output=True, text=True)
    told = curl('/told').stdout.split('\n')[0].split(' ')
    denied = curl('/secret/x', "-w ' %{http_code} %{http_version}'")
    sent = curl('/count', '-d @/tmp/body')
    print(port, version, told[0], told[2], denied.stdout.split('\n')[1], 'no secrets' in denied.stdout, sent.stdout, curl('/big', '-o /dev/null -w %{size_download}').stdout, curl('/none', '-w %{http_code}').stdout, curl('/x', '-I -o /dev/null -w %{http_code}').stdout)
"#;
        run(&sandbox, "head -c 300000 /dev/zero | tr '\\0' x >/tmp/body").await;
        let said = python(&sandbox, program).await;
        let rows = [
            ("443 --http1.1", "HTTP/2.0", "1.1"),
            ("443 --http2", "HTTP/2.0", "2"),
            ("8443 --http1.1", "HTTP/1.1", "1.1"),
            ("8443 --http2", "HTTP/1.1", "2"),
            ("9443 --http1.1", "HTTP/2.0", "1.1"),
            ("9443 --http2", "HTTP/2.0", "2"),
            ("443 --tls-max 1.2", "HTTP/2.0", "2"),
            ("443 --tlsv1.3", "HTTP/2.0", "2"),
        ];
        let expected = rows.map(|(how, upstream, client)| {
            format!("{how} GET {upstream}  403 {client} True 300000 67108864 204 200")
        });
        assert_eq!(said, expected.join("\n"));
        for server in [both, one, two] {
            assert!(!server.text().contains("secret"), "{}", server.text());
        }
        let denied = ground.denied("allowed.test", "no secrets").await;
        assert_eq!(
            (denied.kind, denied.protocol.as_str()),
            (Kind::Request, "https")
        );
        assert_eq!(denied.path.as_deref(), Some("/secret/x"));
        let sent = ground
            .recorded("is of the body", |it| it.path.as_deref() == Some("/count"))
            .await;
        assert!(
            sent.bytes_out >= 300_000 && sent.upstream_status == Some(200),
            "{sent:?}"
        );
    });
}

#[test]
fn streams_of_one_connection_are_judged_each_and_share_one_way() {
    on_ground(policy(RULES), |ground| async move {
        let server = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let sandbox = ground.sandbox("streams").await;
        let many = run(
            &sandbox,
            "curl -sS --max-time 60 --http2 -Z --parallel-max 20 -o /dev/null -w '%{http_code} %{num_connects}\\n' \
             'https://allowed.test/a[1-40]' 'https://allowed.test/secret/[1-5]' | sort | uniq -c | sort -rn | head -3",
        )
        .await;
        assert!(many.contains(" 200 0") && many.contains(" 403 0"), "{many}");
        let seen = server.text();
        assert_eq!(
            seen.lines().filter(|line| line.contains("/a")).count(),
            40,
            "{seen}"
        );
        assert!(!seen.contains("secret"), "{seen}");
        assert_eq!(server.connections(), 1);
        let trailers = run(
            &sandbox,
            "curl -sS --max-time 30 --http2 -H 'TE: trailers' -D - -o /dev/null https://allowed.test/trailers",
        )
        .await;
        assert!(trailers.contains("grpc-status: 0"), "{trailers}");
        let upgraded = run(
            &sandbox,
            "printf '#!/usr/bin/node\\nconst tls = require(\"tls\");\
             const s = tls.connect({host: \"allowed.test\", port: 443, servername: \"allowed.test\", ALPNProtocols: [\"http/1.1\"]}, () => s.write(\"GET /upgrade HTTP/1.1\\\\r\\\\nHost: allowed.test\\\\r\\\\nConnection: Upgrade\\\\r\\\\nUpgrade: websocket\\\\r\\\\n\\\\r\\\\nframes\"));\
             let got = \"\"; s.on(\"data\", d => { got += d; if (got.endsWith(\"frames\")) { console.log(got.slice(0, 12), got.slice(-6)); s.end(); } });' >/tmp/ws.js && timeout 30 node /tmp/ws.js",
        )
        .await;
        assert_eq!(upgraded, "HTTP/1.1 101 frames");
    });
}

#[test]
fn a_length_without_a_body_does_not_take_the_next_request_for_one() {
    on_ground(policy(RULES), |ground| async move {
        let server = ground.server(SERVER, 8443, https(ONE, Shown::Good));
        let sandbox = ground.sandbox("lengths").await;
        let program = "cat >/tmp/two.js <<'END'\n\
            const c = require('http2').connect('https://allowed.test:8443');\n\
            const ask = (headers, options, body) => new Promise(done => {\n\
              const r = c.request(headers, options); let b = ''; let status;\n\
              r.on('response', h => status = h[':status']); r.on('data', d => b += d);\n\
              r.on('error', () => done('refused')); r.on('close', () => done(status + ' ' + b)); r.end(body); });\n\
            (async () => {\n\
              const one = await ask({':path': '/told', ':method': 'POST', 'content-length': '70'}, {endStream: true});\n\
              console.log(one.includes('content-length: 70'));\n\
              console.log(await ask({':path': '/count', ':method': 'POST'}, {}, 'GET /secret HTTP/1.1\\r\\nHost: allowed.test\\r\\n\\r\\n'));\n\
              c.close(); })();\n\
            END\n\
            timeout 30 node /tmp/two.js";
        assert_eq!(run(&sandbox, program).await, "false\n200 44");
        assert!(!server.text().contains("secret"), "{}", server.text());
    });
}

#[test]
fn an_answer_that_does_not_wait_for_the_body_breaks_off_no_stream() {
    on_ground(policy(RULES), |ground| async move {
        let server = ground.server(SERVER, 9443, https(TWO, Shown::Good));
        let sandbox = ground.sandbox("early").await;
        // The server answers a request that it never reads; its client has more to say, and says it a while later.
        let program = "cat >/tmp/early.js <<'END'\n\
            const c = require('http2').connect('https://allowed.test:9443');\n\
            const r = c.request({':path': '/early', ':method': 'POST'}); let status;\n\
            r.on('response', h => status = h[':status']); r.on('data', () => {});\n\
            r.on('end', () => setTimeout(() => { if (!r.destroyed) r.end('the rest'); }, 500));\n\
            r.on('error', e => console.log(e.code));\n\
            r.on('close', () => { console.log(status, r.rstCode, r.aborted); c.close(); });\n\
            r.write('x'.repeat(300000));\n\
            END\n\
            timeout 30 node /tmp/early.js";
        assert_eq!(run(&sandbox, program).await, "200 0 false");
        assert_eq!(server.text().matches("POST").count(), 1);
    });
}

#[test]
fn a_websocket_over_http_2_is_not_offered_and_one_that_is_asked_for_is_refused_alone() {
    on_ground(policy(RULES), |ground| async move {
        let server = ground.server(SERVER, 9443, https(TWO, Shown::Good));
        let sandbox = ground.sandbox("extended").await;
        // RFC 8441: a client that follows it asks nobody who does not offer it.
        let program = "cat >/tmp/extended.js <<'END'\n\
            const c = require('http2').connect('https://allowed.test:9443');\n\
            const ask = headers => new Promise(done => {\n\
              const r = c.request({':authority': 'allowed.test:9443', ...headers}); let status;\n\
              r.on('response', h => { status = h[':status']; r.resume(); r.end(); });\n\
              r.on('error', () => {}); r.on('close', () => done(status + ' ' + r.rstCode)); });\n\
            c.once('remoteSettings', async offered => {\n\
              console.log(offered.enableConnectProtocol);\n\
              console.log(await ask({':method': 'CONNECT', ':protocol': 'websocket', ':scheme': 'https', ':path': '/ws'}));\n\
              console.log(await ask({':method': 'CONNECT'}));\n\
              console.log(await ask({':method': 'GET', ':path': '/told'}));\n\
              c.close(); });\n\
            END\n\
            timeout 30 node /tmp/extended.js";
        // PROTOCOL_ERROR for the one, 405 for a tunnel, and the connection goes on.
        assert_eq!(
            run(&sandbox, program).await,
            "false\nundefined 1\n405 0\n200 0"
        );
        assert!(!server.text().contains("CONNECT"), "{}", server.text());
        ground.denied("allowed.test", "protocol").await;
    });
}

#[test]
fn another_host_inside_is_misdirected_and_another_server_name_is_refused() {
    on_ground(policy(RULES), |ground| async move {
        let server = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let sandbox = ground.sandbox("fronting").await;
        let said = run(
            &sandbox,
            "for v in --http1.1 --http2; do curl -sS --max-time 30 $v -H 'Host: other.test' -o /dev/null -w '%{http_code} ' https://allowed.test/; \
             curl -sS --max-time 30 $v -o /dev/null -w '%{http_code} ' https://allowed.test/a%2fb; done; \
             curl -sS --max-time 30 --connect-to other.test:443:allowed.test:443 https://other.test/ 2>&1 | head -c 60",
        )
        .await;
        assert!(said.starts_with("421 400 421 400 curl: (35)"), "{said}");
        assert_eq!(server.text(), "");
        ground.denied("allowed.test", "names").await;
    });
}

#[test]
fn a_server_whose_certificate_is_wrong_gives_one_line_that_says_how() {
    on_ground(policy(RULES), |ground| async move {
        for (port, shown) in [
            (1001, Shown::Expired),
            (1002, Shown::SelfSigned),
            (1003, Shown::OtherName),
            (1004, Shown::Revoked),
        ] {
            ground.server(SERVER, port, https(BOTH, shown));
        }
        ground.serve(SERVER, 1005, |_| {
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()
        });
        let sandbox = ground.sandbox("certificates").await;
        let said = run(
            &sandbox,
            "for p in 1001 1002 1003 1004 1005 1006; do curl -sS --max-time 30 -w '%{http_code}\\n' https://allowed.test:$p/; done",
        )
        .await;
        let expected = [
            "its certificate is not accepted: it has expired",
            "its certificate is not accepted: nobody who is trusted has signed it",
            "its certificate is not accepted: it is for another name",
            "its certificate is not accepted: it was revoked",
            "the handshake of TLS failed",
            "Connection refused",
        ];
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), 12, "{said}");
        for (pair, expected) in lines.chunks(2).zip(expected) {
            assert!(
                pair[0].contains(expected) && pair[1] == "502",
                "{pair:?}: {expected}"
            );
        }
    });
}

#[test]
fn calls_of_tools_are_judged_by_what_the_body_says() {
    on_ground(policy(RULES), |ground| async move {
        ground.name("tools.test", &[SERVER]);
        let server = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let sandbox = ground.sandbox("tools").await;
        // The server's certificate is for other names, which shows how far a request came: 502 is past the rules.
        let said = run(
            &sandbox,
            r#"post() { curl -sS --max-time 30 -o /tmp/o -w '%{http_code} ' -H 'Content-Type: application/json' "$@" https://tools.test/mcp; }
call() { printf '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"%s"}}' $1; }
post -d "$(call read)"; post -d "$(call write)"; post -d '{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
post -d "[$(call read),$(call write)]"; post -d '{"method":"tools/call","params":{"name":"read","name":"write"}}'
post -H 'Content-Encoding: gzip' -d x; post -d 'plain'; curl -sS -o /dev/null -w '%{http_code} ' https://tools.test/mcp; cat /tmp/o"#,
        )
        .await;
        assert!(
            said.starts_with("502 403 502 403 403 403 403 502 "),
            "{said}"
        );
        assert_eq!(server.text(), "");
        ground.denied("tools.test", "no other tool").await;
        ground.denied("tools.test", "mcp").await;
    });
}

#[test]
fn tls_that_no_rule_looks_into_is_passed_on_untouched_and_a_change_of_policy_ends_what_it_forbids()
{
    on_ground(unrestricted(), |ground| async move {
        let server = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let sandbox = ground.sandbox("spliced").await;
        // The certificate is the server's own, which nobody in the sandbox trusts.
        let said = run(&sandbox, "curl -sS --max-time 30 https://allowed.test/x 2>&1; curl -sS -k --max-time 30 https://allowed.test/x").await;
        assert!(
            said.contains("curl: (60)") && said.ends_with("hello /x"),
            "{said}"
        );
        assert_eq!(server.connections(), 2);
        let spliced = ground
            .recorded("is of the flow", |it| it.kind == Kind::Flow)
            .await;
        assert_eq!(
            (spliced.action, spliced.protocol.as_str()),
            (Action::Allowed, "tls")
        );
        // From now on it is looked into: its certificate is of the sandbox's own authority.
        ground.set_policy("spliced", &policy(RULES)).await;
        let said = run(&sandbox, "curl -sS --max-time 30 https://allowed.test/x; curl -sS -o /dev/null -w '%{http_code}' https://allowed.test/secret").await;
        assert_eq!(said, "hello /x\n403");
        // A client that trusts nobody goes, which is recorded.
        let said = run(&sandbox, "curl -sS --max-time 30 --capath /nowhere --cacert /etc/hostname https://allowed.test/ 2>&1; env -i /usr/bin/python3 -c \"import ssl, socket; c = ssl.create_default_context(); c.load_verify_locations('/etc/ssl/certs/longhand.pem'); c.wrap_socket(socket.create_connection(('allowed.test', 443)), server_hostname='allowed.test').close(); print('trusted')\"").await;
        assert!(
            said.contains("curl: (77)") || said.contains("curl: (60)"),
            "{said}"
        );
        assert!(said.ends_with("trusted"), "{said}");
    });
}

#[test]
fn the_sandboxs_authority_outlives_the_egress_process() {
    on_ground(policy(RULES), |ground| async move {
        let _server = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let sandbox = ground.sandbox("outlives").await;
        let get = "curl -sS --max-time 30 https://allowed.test/x 2>&1";
        assert_eq!(run(&sandbox, get).await, "hello /x");
        ground.end_host();
        ground.begin_host();
        crate::ground::until("it is carried for again", || async {
            run(&sandbox, get).await == "hello /x"
        })
        .await;
        let trusted = run(&sandbox, "env | grep -c /etc/ssl/certs; ls -l /etc/ssl/certs/longhand.pem | cut -c1-10; grep -c BEGIN /etc/ssl/certs/longhand.pem").await;
        assert_eq!(trusted, "9\n-rw-r--r--\n1");
    });
}
