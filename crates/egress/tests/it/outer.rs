//! Network namespaces of a test alone. No route leads out of them.

use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::ground::{NAT64, OTHER, PRIVATE, SERVER, SERVER_V6};

/// On the cable alone, on the servers' side of it.
const LINK_LOCAL: &str = "fe80::5/64 nodad";

/// Two network namespaces with a cable between them: one for the egress process, one for servers.
pub fn namespaces() -> (OwnedFd, OwnedFd) {
    let (told, here) = std::sync::mpsc::channel();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let servers = std::thread::spawn(move || {
        sys::new_network().unwrap();
        told.send((own_namespace(), rustix::thread::gettid().as_raw_nonzero()))
            .unwrap();
        wait.recv().unwrap();
        ip("link set lo up");
        ip("link set in0 up");
        for address in [
            "192.0.2.2/24 broadcast 192.0.2.255",
            "2001:db8::2/64 nodad",
            LINK_LOCAL,
        ] {
            ip(&format!("addr add {address} dev in0"));
        }
        for address in [SERVER, OTHER, SERVER_V6, NAT64].into_iter().chain(PRIVATE) {
            // An address of IPv6 that is looked for first is not there yet.
            let length = if address.contains(':') {
                "128 dev lo nodad"
            } else {
                "32 dev lo"
            };
            ip(&format!("addr add {address}/{length}"));
        }
    });
    let outer = std::thread::spawn(move || {
        let (servers, tid) = here.recv().unwrap();
        sys::new_network().unwrap();
        ip("link set lo up");
        ip(&format!(
            "link add out0 type veth peer name in0 netns {tid}"
        ));
        ip("link set out0 up");
        ip("addr add 192.0.2.1/24 broadcast 192.0.2.255 dev out0");
        ip("addr add 2001:db8::1/64 dev out0 nodad");
        go.send(()).unwrap();
        ip("route add default via 192.0.2.2");
        ip("route add default via 2001:db8::2");
        (own_namespace(), servers)
    });
    let both = outer.join().unwrap();
    servers.join().unwrap();
    both
}

fn own_namespace() -> OwnedFd {
    let path = "/proc/thread-self/ns/net";
    std::fs::File::open(path).unwrap().into()
}

/// Moves this thread into that network namespace.
pub fn enter(namespace: &OwnedFd) {
    let kind = LinkNameSpaceType::Network;
    move_into_link_name_space(namespace.as_fd(), Some(kind)).unwrap();
}

fn ip(arguments: &str) {
    let ran = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

pub fn interfaces() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let names = text
        .lines()
        .skip(2)
        .filter_map(|line| line.split(':').next());
    let mut names: Vec<_> = names.map(|name| name.trim().to_owned()).collect();
    names.sort();
    names
}
