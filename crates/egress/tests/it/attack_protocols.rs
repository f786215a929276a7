//! Attacks that go around TCP, from inside a real sandbox.

use crate::ground::{PRIVATE, SERVER, SERVER_V6, on_ground, python, unrestricted};

#[test]
pub fn udp_to_anything_but_port_53_is_refused_at_once() {
    on_ground(unrestricted(), |ground| async move {
        let sandbox = ground.sandbox("udp").await;
        let program = format!(
            "def udp(to, port):\n    \
                 def go():\n        \
                     s = socket.socket(socket.AF_INET6 if ':' in to else socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10)\n        \
                     s.connect((to, port)); s.send(b'quic'); return s.recv(10)\n    \
                 return tried(go)\n\
             print(*[udp(to, port) for to in ('{SERVER}', '{SERVER_V6}', '{}', '{}') for port in (443, 54, 123)])\n\
             print(udp('224.0.0.251', 5353), udp('ff02::fb%1', 5353) != b'', udp('255.255.255.255', 67))\n",
            PRIVATE[0], PRIVATE[5]
        );
        let said = python(&sandbox, &program).await;
        let refused = ["ECONNREFUSED"; 12].join(" ");
        assert!(said.starts_with(&refused), "{said}");
        assert!(said.ends_with("True EACCES"), "{said}");
    });
}

#[test]
pub fn other_protocols_and_changes_of_the_network_are_refused() {
    on_ground(unrestricted(), |ground| async move {
        let sandbox = ground.sandbox("raw").await;
        // ICMP raw and as datagrams, SCTP, UDP-Lite, packets, vsock; then bpf(2), setns, a user namespace.
        let program = "make = lambda *a: tried(lambda: socket.socket(*a) and 'made')\n\
            print(*[make(*a) for a in ((2, 3, 1), (10, 3, 58), (2, 2, 1), (10, 2, 58), (2, 1, 132), (2, 2, 136), (17, 3, 0), (40, 1, 0))])\n\
            import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n\
            def call(n, *a):\n    \
                r = libc.syscall(n, *a); return errno.errorcode[ctypes.get_errno()] if r == -1 else r\n\
            print(call(321, 0, 0, 0), call(308, 0, 0x40000000), call(272, 0x10000000), call(272, 0x40000000))\n\
            print(sorted(n for _, n in socket.if_nameindex()))\n";
        let said = python(&sandbox, program).await;
        let refused = ["EPERM"; 8].join(" ");
        assert_eq!(said, format!("{refused}\nEPERM EPERM EPERM EPERM\n['lo']"));
    });
}

#[test]
pub fn another_sandbox_and_the_host_itself_cannot_be_reached() {
    on_ground(unrestricted(), |ground| async move {
        let (one, other) = (ground.sandbox("one").await, ground.sandbox("other").await);
        // Nothing of the one is at an address that the other has, and the host's own is refused.
        let serving = "import subprocess, sys\n\
            subprocess.Popen([sys.executable, '-c', 'import socket; s = socket.create_server((\"\", 7777)); s.accept()'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n\
            until = time.monotonic() + 20\n\
            while tried(lambda: socket.create_connection(('127.0.0.1', 7777)) and 'up') != 'up' and time.monotonic() < until: pass\n\
            print('up')\n";
        assert_eq!(python(&one, serving).await, "up");
        let program = "print(tcp('127.0.0.1', 7777), tcp('192.0.2.1', 7777, b'x\\n'), http('192.0.2.1')[:12], tcp('0.0.0.0', 7777))";
        let said = python(&other, program).await;
        assert_eq!(said, "ECONNREFUSED ECONNRESET HTTP/1.1 403 ECONNREFUSED");
        ground.denied("192.0.2.1", "always-denied").await;
    });
}
