//! Attacks by what has no end, or becomes something else on the way: on what is held here, and on who judges it.

use super::case::{ALL, Case, Without};

/// What has a method or a path is looked into; a rule that names tools has to read bodies.
const TOOLS: &str = "[[rules]]\nname = 'one tool'\naction = 'allow'\nto = ['allowed.test']\nports = [80]\nmcp_tools = ['read']\n";

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "headers_come_slowly",
        tries: "hold a connection by a head that never ends, a field now and then",
        policy: ALL,
        attack: "s = socket.create_connection(('allowed.test', 80)); s.settimeout(1)\n\
            s.sendall(b'GET / HTTP/1.1\\r\\nHost: allowed.test\\r\\n')\n\
            def go():\n    \
                while True:\n        \
                    try: return S(s.recv(100).decode())\n        \
                    except socket.timeout: s.sendall(b'X: y\\r\\n')\n\
            print(tried(go))",
        denied: "408",
        rule: "protocol",
        stops: "a head is all there within 30 s",
        without: Without::Network,
        reached: "200",
    },
    Case {
        name: "headers_have_no_end",
        tries: "fill memory by a head without an end",
        policy: ALL,
        attack: "print(first('allowed.test', 80, b'GET / HTTP/1.1\\r\\nHost: allowed.test\\r\\n' + b'X: 0123456789\\r\\n' * 100 + b'Y: ' + b'y' * 60000))",
        denied: "431",
        rule: "protocol",
        stops: "a head has at most 32 KiB",
        without: Without::Network,
        reached: "200",
    },
    Case {
        name: "body_has_no_end",
        tries: "fill memory by a body that a rule has to read",
        policy: TOOLS,
        attack: "s = socket.create_connection(('allowed.test', 80), timeout=20)\n\
            s.sendall(b'POST /mcp HTTP/1.1\\r\\nHost: allowed.test\\r\\nContent-Type: application/json\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n')\n\
            def go():\n    \
                while not select.select([s], [], [], 0)[0]: push(s, b'400\\r\\n' + b' ' * 1024 + b'\\r\\n')\n    \
                return S(s.recv(100).decode())\n\
            print(tried(go))",
        denied: "403",
        rule: "mcp",
        stops: "at most 1 MiB of a body is read to be judged",
        without: Without::Network,
        reached: "200",
    },
    Case {
        name: "body_unpacks_to_more",
        tries: "have a small body unpacked that becomes a large one (decompression bomb)",
        policy: TOOLS,
        attack: "import gzip; body = gzip.compress(bytes(10000000))\n\
            print(first('allowed.test', 80, b'POST /mcp HTTP/1.1\\r\\nHost: allowed.test\\r\\nContent-Type: application/json\\r\\nContent-Encoding: gzip\\r\\nContent-Length: %d\\r\\n\\r\\n' % len(body) + body))",
        denied: "403",
        rule: "mcp",
        stops: "what is packed is not unpacked to be judged, but denied",
        without: Without::Network,
        reached: "200",
    },
    Case {
        name: "answers_come_before_the_answer",
        tries: "have a server say 1xx without an end",
        policy: ALL,
        attack: "s = socket.create_connection(('allowed.test', 7101), timeout=20); s.sendall(b'GET / HTTP/1.1\\r\\nHost: allowed.test:7101\\r\\n\\r\\n')\n\
            def go():\n    \
                got = b''\n    \
                while got.count(b'HTTP/1.1 103') < 100:\n        \
                    part = s.recv(65536)\n        \
                    if not part: return S(got[got.rfind(b'HTTP/1.1'):].decode())\n        \
                    got += part\n    \
                return 'flooded'\n\
            print(tried(go))",
        denied: "502",
        rule: "upstream",
        stops: "sixteen answers of 1xx, and then no more",
        without: Without::Network,
        reached: "flooded",
    },
    Case {
        name: "answer_has_a_head_without_an_end",
        tries: "have a server fill memory by the head of its answer",
        policy: ALL,
        attack: "s = socket.create_connection(('allowed.test', 7102), timeout=20); s.sendall(b'GET / HTTP/1.1\\r\\nHost: allowed.test:7102\\r\\n\\r\\n')\n\
            def go():\n    \
                got = b''\n    \
                while len(got) < 1000000:\n        \
                    part = s.recv(65536)\n        \
                    if not part: return S(got.decode())\n        \
                    got += part\n    \
                return 'flooded'\n\
            print(tried(go))",
        denied: "502",
        rule: "upstream",
        stops: "an answer's head has at most 64 KiB",
        without: Without::Network,
        reached: "flooded",
    },
    Case {
        name: "upgrade_to_something_else",
        tries: "have a connection become something that nobody judges (Upgrade)",
        policy: ALL,
        attack: "print(S(tcp('allowed.test', 7103, b'GET / HTTP/1.1\\r\\nHost: allowed.test:7103\\r\\nConnection: Upgrade, close\\r\\nUpgrade: tunnel\\r\\n\\r\\n')))",
        denied: "200",
        rule: "",
        stops: "only an upgrade to a WebSocket is passed on",
        without: Without::Network,
        reached: "101",
    },
    Case {
        name: "switch_that_nobody_asked_for",
        tries: "have a server say that the connection is something else from here on",
        policy: ALL,
        attack: "print(S(tcp('allowed.test', 7104, b'GET / HTTP/1.1\\r\\nHost: allowed.test:7104\\r\\n\\r\\n')))",
        denied: "ECONNRESET",
        rule: "",
        stops: "a switch that the request did not ask for ends the connection",
        without: Without::Network,
        reached: "101",
    },
    Case {
        name: "request_is_begun_as_something_else",
        tries: "have a request taken for another protocol by saying half of its first line, and waiting",
        policy: ALL,
        attack: "s = socket.create_connection(('allowed.test', 7105), timeout=40); s.sendall(b'GET /secret')\n\
            def go():\n    \
                assert s.recv(1) == b'?'\n    \
                s.sendall(b' HTTP/1.1\\r\\nHost: allowed.test\\r\\n\\r\\n'); return S(told(s))\n\
            print(tried(go))",
        denied: "ECONNRESET",
        rule: "protocol",
        stops: "a line that was begun is looked at to its end, and no request's goes on",
        without: Without::Network,
        reached: "200",
    },
];
