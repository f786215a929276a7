//! The names of one connection agree, or the request is misdirected.

use egress::identity::{Misdirected, check_authority, check_server_name};
use egress::{Authority, Name, Target};

#[test]
fn the_server_name_is_the_dialled_name() {
    let dialled = Target::parse("api.test").unwrap();
    let name = |text| Name::parse(text).unwrap();
    assert_eq!(check_server_name(&dialled, None), Ok(()));
    assert_eq!(
        check_server_name(&dialled, Some(&name("API.test."))),
        Ok(())
    );
    let other = Err(Misdirected::ServerName);
    assert_eq!(check_server_name(&dialled, Some(&name("evil.test"))), other);
    assert_eq!(
        check_server_name(&dialled, Some(&name("a.api.test"))),
        other
    );
    let literal = Target::parse("192.0.2.1").unwrap();
    assert_eq!(check_server_name(&literal, Some(&name("api.test"))), other);
}

#[test]
fn the_requests_host_and_port_are_the_dialled_ones() {
    let dialled = Target::parse("api.test").unwrap();
    let check = |text: &str| check_authority(&dialled, 8443, &Authority::parse(text).unwrap());
    assert_eq!(check("api.test"), Ok(()));
    assert_eq!(check("API.TEST.:8443"), Ok(()));
    assert_eq!(check("api.test:443"), Err(Misdirected::Port));
    assert_eq!(check("evil.test:8443"), Err(Misdirected::Host));
    assert_eq!(check("192.0.2.1"), Err(Misdirected::Host));
}
