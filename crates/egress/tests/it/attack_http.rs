//! Attacks on the reader of HTTP, from inside a real sandbox: what two servers could read in two ways, and what
//! stands behind a request.

use crate::ground::{SERVER, hello, on_ground, policy, python, unrestricted};

#[test]
fn requests_that_could_be_read_in_two_ways_reach_no_server() {
    on_ground(unrestricted(), |ground| async move {
        let server = ground.serve(SERVER, 80, hello);
        let sandbox = ground.sandbox("smuggle").await;
        let program = r"
H = b'Host: allowed.test\r\n'
for attack in (
    b'POST / HTTP/1.1\r\n' + H + b'Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    b'POST / HTTP/1.1\r\n' + H + b'Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n',
    b'POST / HTTP/1.1\r\n' + H + b'Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd',
    b'GET / HTTP/1.1\n' + H + b'\n',
    b'GET / HTTP/1.1\r\nHost: allowed.test\r\nHost: other.test\r\n\r\n',
    b'GET / HTTP/1.1\r\n' + H + b'X: a\x00b\r\n\r\n',
    b'GET http://other.test/ HTTP/1.1\r\n' + H + b'\r\n',
    b'GET / HTTP/1.1\r\nHost: user@allowed.test\r\n\r\n',
    b'CONNECT allowed.test:443 HTTP/1.1\r\n' + H + b'\r\n',
    b'TRACE / HTTP/1.1\r\n' + H + b'\r\n',
    b'\r\nGET / HTTP/1.1\r\n' + H + b'\r\n',
    b'GET /a%2fb HTTP/1.1\r\n' + H + b'\r\n',
    b'GET / HTTP/1.1\r\n' + H + b'A: ' + b'a' * 40000 + b'\r\n\r\n',
):
    print(tcp('allowed.test', 80, attack)[9:12], end=' ')
";
        let said = python(&sandbox, program).await;
        assert_eq!(said, "400 400 400 400 400 400 421 400 405 405 400 400 431");
        assert_eq!(server.text(), "");
    });
}

#[test]
fn nothing_behind_a_request_is_passed_on() {
    on_ground(unrestricted(), |ground| async move {
        let server = ground.serve(SERVER, 80, hello);
        let sandbox = ground.sandbox("pipelined").await;
        let program = r"
one = b'POST /one HTTP/1.1\r\nHost: allowed.test\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nbody'
print(tcp('allowed.test', 80, one + b'GET /two HTTP/1.1\r\nHost: other.test\r\n\r\n')[9:12])
";
        assert_eq!(python(&sandbox, program).await, "200");
        let seen = server.text();
        assert!(
            seen.starts_with("POST /one HTTP/1.1\r\nHost: allowed.test\r\n"),
            "{seen}"
        );
        assert!(
            !seen.contains("two") && !seen.contains("other.test"),
            "{seen}"
        );
    });
}

#[test]
fn rules_about_methods_and_paths_judge_the_canonical_request() {
    let rules = "[[rules]]\nname = 'read docs'\naction = 'allow'\nto = ['allowed.test']\nports = [80, 443]\nmethods = ['GET']\npaths = ['/docs']\n";
    on_ground(policy(rules), |ground| async move {
        let server = ground.serve(SERVER, 80, hello);
        let sandbox = ground.sandbox("paths").await;
        let program = r"
def get(path, method='GET'): return tcp('allowed.test', 80, ('%s %s HTTP/1.1\r\nHost: allowed.test\r\n\r\n' % (method, path)).encode())[9:12]
print(get('/docs/a'), get('/docs/../secret'), get('/docs/%2e%2e/secret'), get('/secret'), get('/docsx'), get('/docs', 'POST'))
print(tls('allowed.test', send=b'GET /secret HTTP/1.1\r\nHost: allowed.test\r\n\r\n')[9:12])
";
        let said = python(&sandbox, program).await;
        assert_eq!(said, "200 403 403 403 403 403\n403");
        let seen = server.text();
        assert_eq!(seen.matches("HTTP/1.1").count(), 1, "{seen}");
        let record = ground.denied("allowed.test", "default").await;
        assert!(record.reason.contains("denied"), "{}", record.reason);
    });
}
