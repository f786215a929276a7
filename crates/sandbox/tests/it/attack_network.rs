//! Attacks from inside on networks. There is none but the sandbox's own loopback.

use crate::support::{host, python};

#[tokio::test]
async fn nothing_but_its_own_loopback_can_be_reached() {
    let host = host();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let sandbox = host.attach("reach").await;
    let program = format!(
        "def tcp(family, *address): return errno.errorcode.get(socket.socket(family).connect_ex(address), 'connected')\n\
         print(tcp(socket.AF_INET, '192.0.2.1', 80), tcp(socket.AF_INET, '169.254.169.254', 80), tcp(socket.AF_INET, '10.0.0.1', 22))\n\
         print(tcp(socket.AF_INET6, '2001:db8::1', 443), tcp(socket.AF_INET6, 'fe80::1', 443, 0, 1))\n\
         print(tcp(socket.AF_INET, '127.0.0.1', {port}), tcp(socket.AF_INET6, '::ffff:127.0.0.1', {port}))\n\
         print(tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))))\n\
         print(tried(lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b'x', ('2001:db8::1', 53))))\n\
         print([name for _, name in socket.if_nameindex()])\n"
    );
    let seen = python(&sandbox, &program).await;
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[0], "ENETUNREACH ENETUNREACH ENETUNREACH");
    assert!(
        lines[1].starts_with("ENETUNREACH ") && !lines[1].contains("connected"),
        "{seen}"
    );
    assert_eq!(
        lines[2..5],
        ["ECONNREFUSED ECONNREFUSED", "ENETUNREACH", "ENETUNREACH"]
    );
    assert!(
        lines[5].contains("'lo'") && !lines[5].contains("eth"),
        "{seen}"
    );
    drop(listener);
}

#[tokio::test]
async fn sockets_of_other_families_and_raw_ones_are_refused() {
    let host = host();
    let sandbox = host.attach("families").await;
    let program = "def make(*a): return tried(lambda: socket.socket(*a) and 'made')\n\
        print(make(40, 1, 0), make(38, 5, 0), make(17, 3, 0), make(31, 3, 1))\n\
        print(make(2, 3, 1), make(10, 3, 58), make(2, 2, 1), make(10, 2, 58), make(2, 3 | 0o4000, 255))\n\
        print(make(16, 3, 0), make(16, 3, 9), make(16, 3, 12), make(16, 3, 15))\n\
        print(make(1, 1, 0), make(2, 1, 0), make(10, 2, 0))\n";
    assert_eq!(
        python(&sandbox, program).await,
        "EPERM EPERM EPERM EPERM\nEPERM EPERM EPERM EPERM EPERM\nmade EPERM EPERM EPERM\nmade made made"
    );
}

#[tokio::test]
async fn over_ip_there_are_tcp_and_udp_and_no_other_protocol() {
    let host = host();
    let sandbox = host.attach("protocols").await;
    // MPTCP, SCTP (both kinds), UDP-Lite, L2TP, DCCP, and kinds of sockets that no protocol has.
    let program = "def make(*a): return tried(lambda: socket.socket(*a) and 'made')\n\
        for f in (2, 10):\n    \
            print([make(f, *a) for a in ((1, 262), (1, 132), (5, 132), (2, 136), (2, 115), (6, 33), (3, 0), (4, 0), (10, 0), (0, 0), (1, 17), (2, 6))])\n    \
            print([make(f, *a) for a in ((1, 0), (1, 6), (2, 0), (2, 17), (1 | 0o2004000, 6), (2 | 0o4000, 17))])\n";
    let refused = ["'EPERM'"; 12].join(", ");
    let made = ["'made'"; 6].join(", ");
    assert_eq!(
        python(&sandbox, program).await,
        format!("[{refused}]\n[{made}]\n[{refused}]\n[{made}]")
    );
}

#[tokio::test]
async fn interfaces_and_routes_cannot_be_changed() {
    let host = host();
    let sandbox = host.attach("routes").await;
    // RTM_NEWROUTE (default via 127.0.0.1), RTM_NEWADDR and RTM_NEWLINK, each answered by an errno.
    let program = "import fcntl\n\
        def ask(kind, payload):\n    \
            s = socket.socket(16, 3, 0); s.settimeout(5)\n    \
            s.send(struct.pack('=IHHII', 16 + len(payload), kind, 0x605, 1, 0) + payload)\n    \
            return errno.errorcode[-struct.unpack_from('=i', s.recv(4096), 16)[0]]\n\
        route = struct.pack('=BBBBBBBBI', 2, 0, 0, 0, 254, 3, 0, 1, 0) + struct.pack('=HH4s', 8, 5, bytes([127, 0, 0, 1]))\n\
        address = struct.pack('=BBBBI', 2, 8, 0, 0, 1) + struct.pack('=HH4s', 8, 2, bytes([10, 0, 0, 1]))\n\
        link = struct.pack('=BxHiII', 0, 0, 0, 0, 0) + struct.pack('=HH4s', 8, 3, b'tap\\0')\n\
        print(ask(24, route), ask(20, address), ask(16, link))\n\
        s = socket.socket(); down = struct.pack('16sH14x', b'lo', 0)\n\
        print(tried(lambda: fcntl.ioctl(s, 0x8914, down)), tried(lambda: open('/proc/sys/net/ipv4/ip_forward', 'w')))\n\
        print(tried(lambda: s.setsockopt(0, 19, 1)), tried(lambda: s.setsockopt(1, 36, 1)))\n";
    assert_eq!(
        python(&sandbox, program).await,
        "EPERM EPERM EPERM\nEPERM EROFS\nEPERM EPERM"
    );
}

#[tokio::test]
async fn its_own_loopback_serves_also_low_ports() {
    let host = host();
    let sandbox = host.attach("loopback").await;
    let program = "s = socket.create_server(('127.0.0.1', 80)); c = socket.create_connection(('localhost', 80)); c.send(b'x'); print(s.accept()[0].recv(1))\n\
        s = socket.create_server(('::1', 443), family=socket.AF_INET6); c = socket.create_connection(('::1', 443)); print('six')\n";
    assert_eq!(python(&sandbox, program).await, "b'x'\nsix");
    // The server for names lies where nothing answers but the egress process: without it, nobody.
    let asked = "try: socket.getaddrinfo('name.test', 80)\nexcept socket.gaierror as e: print(e.errno == socket.EAI_AGAIN)\n";
    assert_eq!(python(&sandbox, asked).await, "True");
}

#[tokio::test]
async fn abstract_sockets_of_the_host_are_not_there() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    let host = host();
    let name = format!("sandbox-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    assert!(UnixStream::connect_addr(&address).is_ok());
    let sandbox = host.attach("abstract").await;
    let program =
        format!("print(errno.errorcode[socket.socket(socket.AF_UNIX).connect_ex('\\0{name}')])");
    assert_eq!(python(&sandbox, &program).await, "ECONNREFUSED");
}
