//! Attacks on names: DNS as a way out, and names that differ. From inside a real sandbox.

use crate::ground::{OTHER, PRIVATE, SERVER, hello, on_ground, python, unrestricted};

#[test]
fn a_name_that_leads_to_a_private_address_is_refused_when_it_is_dialled() {
    on_ground(unrestricted(), |ground| async move {
        let server = ground.serve(PRIVATE[0], 80, hello);
        ground.name("rebound.test", &[PRIVATE[0]]);
        let sandbox = ground.sandbox("rebound").await;
        let said = python(&sandbox, "print(http('rebound.test'))").await;
        assert!(said.starts_with("HTTP/1.1 403 "), "{said}");
        ground.denied("rebound.test", "always-denied").await;
        assert_eq!(server.connections(), 0);
        // Answers of the resolver that change between two connections change nothing about that.
        ground.serve(SERVER, 80, hello);
        ground.name("rebound.test", &[SERVER]);
        let said = python(&sandbox, "print(http('rebound.test'))").await;
        assert!(said.ends_with("hello"), "{said}");
        ground.name("rebound.test", &[PRIVATE[0]]);
        let said = python(&sandbox, "print(http('rebound.test'))").await;
        assert!(said.starts_with("HTTP/1.1 403 "), "{said}");
        assert_eq!(server.connections(), 0);
    });
}

#[test]
fn a_host_header_of_another_name_is_misdirected() {
    on_ground(unrestricted(), |ground| async move {
        let (one, other) = (
            ground.serve(SERVER, 80, hello),
            ground.serve(OTHER, 80, hello),
        );
        let sandbox = ground.sandbox("hosts").await;
        let said = python(&sandbox, "print(http('allowed.test', name='other.test'))").await;
        assert!(said.starts_with("HTTP/1.1 421 "), "{said}");
        ground.denied("allowed.test", "names").await;
        assert_eq!((one.text().as_str(), other.connections()), ("", 0));
    });
}
