//! What is allowed is carried, from inside a real sandbox to a server outside, and recorded.

use egress::audit::{Action, Kind};

use crate::ground::{
    SERVER, SERVER_V6, echo, hello, limited, on_ground, python, run, unrestricted,
};

#[test]
pub fn an_allowed_server_is_reached_by_name_and_by_address_over_both_families() {
    on_ground(unrestricted(), |ground| async move {
        let (four, six) = (
            ground.serve(SERVER, 80, hello),
            ground.serve(SERVER_V6, 80, hello),
        );
        let sandbox = ground.sandbox("reach").await;
        let fetched = run(
            &sandbox,
            "curl -sS --max-time 20 http://allowed.test/a/b?q=secret",
        )
        .await;
        assert_eq!(fetched, "hello");
        let fetched = run(&sandbox, "curl -sS --max-time 20 http://six.test/").await;
        assert_eq!(fetched, "hello");
        let literal =
            format!("print(http('{SERVER}')[-6:], http('{SERVER_V6}', name='[{SERVER_V6}]')[-6:])");
        assert_eq!(python(&sandbox, &literal).await, "hello\n hello");
        assert_eq!((four.connections(), six.connections()), (2, 2));
        let record = ground
            .recorded("is of the request", |it| it.path.is_some())
            .await;
        assert_eq!(
            (record.kind, record.action),
            (Kind::Request, Action::Allowed)
        );
        assert_eq!(record.path.as_deref(), Some("/a/b"));
        assert_eq!(record.name.as_deref(), Some("allowed.test"));
        assert_eq!(
            record.address.map(|ip| ip.to_string()).as_deref(),
            Some(SERVER)
        );
        assert_eq!(record.upstream_status, Some(200));
        assert!(record.bytes_in > 0 && record.bytes_out > 0 && record.sandbox == "reach");
    });
}

#[test]
pub fn any_port_and_any_protocol_over_tcp_is_carried_as_it_is() {
    on_ground(unrestricted(), |ground| async move {
        let server = ground.serve(SERVER, 65_535, echo);
        let sandbox = ground.sandbox("ports").await;
        let program = "print(tcp('allowed.test', 65535, bytes(range(256))) == bytes(range(256)).decode('latin1'))";
        assert_eq!(python(&sandbox, program).await, "True");
        assert_eq!(server.connections(), 1);
        // One that speaks first is heard before the client has said anything.
        let _greets = ground.server(SERVER, 22, |mut stream, _| {
            std::io::Write::write_all(&mut stream, b"SSH-2.0-server\r\n").unwrap();
        });
        assert_eq!(
            python(&sandbox, "print(tcp('allowed.test', 22))").await,
            "SSH-2.0-server"
        );
        let greeted = ground
            .recorded("is of the greeting", |it| {
                it.port == Some(22) && it.bytes_in > 0
            })
            .await;
        let waited = std::time::Duration::from_micros(greeted.duration_us);
        assert!(
            waited < egress::limits::FIRST_BYTES,
            "its client was waited for: {waited:?}"
        );
    });
}

#[test]
pub fn its_own_loopback_is_left_alone() {
    on_ground(unrestricted(), |ground| async move {
        let _held = ground.server(SERVER, 8080, |mut stream, _| {
            let _ = std::io::Read::read(&mut stream, &mut [0]);
        });
        let sandbox = ground.sandbox("loopback").await;
        let program = "s = socket.create_server(('127.0.0.1', 80)); c = socket.create_connection(('localhost', 80)); c.send(b'x'); print(s.accept()[0].recv(1))\n\
            s = socket.create_server(('::1', 443), family=socket.AF_INET6); c = socket.create_connection(('::1', 443)); print('six')\n\
            u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('127.0.0.1', 5353)); v = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); v.sendto(b'y', ('127.0.0.1', 5353)); print(u.recv(1))\n\
            out = socket.create_connection(('allowed.test', 8080)); s = socket.create_server(('0.0.0.0', 8080)); print('beside one that goes out')\n\
            print(tried(lambda: socket.create_server(('127.0.0.1', 65534)) and 'taken'), tried(lambda: socket.create_server(('::', 65534), family=socket.AF_INET6) and 'taken'))";
        assert_eq!(
            python(&sandbox, program).await,
            "b'x'\nsix\nb'y'\nbeside one that goes out\nEADDRINUSE EADDRINUSE"
        );
    });
}

#[test]
pub fn a_host_that_nothing_lists_is_refused_at_once_with_a_line_that_says_why() {
    on_ground(limited(&["allowed.test"]), |ground| async move {
        let server = ground.serve(crate::ground::OTHER, 80, hello);
        let sandbox = ground.sandbox("refused").await;
        let fetched = run(&sandbox, "curl -sS -i --max-time 20 http://other.test/").await;
        assert!(fetched.starts_with("HTTP/1.1 403 "), "{fetched}");
        assert!(fetched.contains("x-longhand-egress: denied"), "{fetched}");
        assert!(fetched.contains("add it to `allowed_hosts`"), "{fetched}");
        let tls = python(&sandbox, "print(tls('other.test'))").await;
        assert_eq!(tls, "TLSV1_ALERT_ACCESS_DENIED");
        let program = "print(tcp('other.test', 5432, b'\\0\\0\\0\\x08\\x04\\xd2\\x16\\x2f'), tcp('other.test', 22))";
        assert_eq!(python(&sandbox, program).await, "ECONNRESET ECONNRESET");
        ground.denied("other.test", "default").await;
        assert_eq!(server.connections(), 0);
        // Nobody was even asked where it is.
        assert_eq!(ground.lookups.load(std::sync::atomic::Ordering::SeqCst), 0);
    });
}
