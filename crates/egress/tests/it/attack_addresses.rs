//! Attacks on what no sandbox may reach, whatever its policy: from inside a real one.

use crate::ground::{PRIVATE, hello, on_ground, policy, python, unrestricted};

#[test]
pub fn private_and_metadata_addresses_are_refused_as_literals() {
    on_ground(unrestricted(), |ground| async move {
        let servers: Vec<_> = PRIVATE
            .iter()
            .map(|ip| ground.serve(ip, 80, hello))
            .collect();
        let sandbox = ground.sandbox("private").await;
        for ip in PRIVATE {
            let host = if ip.contains(':') {
                format!("[{ip}]")
            } else {
                ip.to_owned()
            };
            let said = python(&sandbox, &format!("print(http('{ip}', name='{host}'))")).await;
            assert!(said.starts_with("HTTP/1.1 403 "), "{ip}: {said}");
            assert!(
                said.contains("only the operator can allow it"),
                "{ip}: {said}"
            );
            ground.denied(ip, "always-denied").await;
        }
        assert!(servers.iter().all(|server| server.connections() == 0));
    });
}

#[test]
fn without_the_always_denied_set_the_same_addresses_are_reached() {
    let lifted = "allow_private = ['169.254.0.0/16', '10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7']\n[networking]\ntype = 'unrestricted'\n";
    on_ground(policy(lifted), |ground| async move {
        let sandbox = ground.sandbox("lifted").await;
        for ip in PRIVATE {
            let server = ground.serve(ip, 80, hello);
            let host = if ip.contains(':') {
                format!("[{ip}]")
            } else {
                ip.to_owned()
            };
            let said = python(&sandbox, &format!("print(http('{ip}', name='{host}'))")).await;
            assert!(said.ends_with("hello"), "{ip}: {said}");
            assert_eq!(server.connections(), 1);
        }
    });
}
