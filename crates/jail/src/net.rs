//! Owns a sandbox's network namespace and what leads out of it: two sockets. It carries nothing itself, and
//! there is never another way out: the only interface is the loopback.
//!
//! Every address is made local, so a program's `connect` ends on this host whatever it names, and the kernel's
//! `sk_lookup` brings it to [`Network::tcp`], or where that is refused, rules of nf_tables do ([`tproxy`]); whoever
//! holds it reads from the accepted connection's own address what was asked for. UDP to port 53 comes to [`Network::dns`], other UDP finds nobody. All of it
//! stands before the first process of the sandbox, and as long as the supervisor: without anybody who accepts,
//! nothing is carried (`carrier`).

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, accept_with, bind, connect, listen, socket_with,
    sockopt,
};

use crate::error::{During, Result};
use crate::netlink::{Netlink, attribute, message};
use crate::plan::Steering;
use crate::tproxy;

/// What is being done when one of these steps fails.
pub(crate) const NETWORK: &str = "make the sandbox's network";
/// The step that needs the kernel's hook.
pub(crate) const STEER: &str = "steer the sandbox's network to the egress process";

/// The port of the listener, on every address: one that is bound to a single IPv6 address gets nothing of IPv4.
/// It is above what programs listen on and what the kernel gives out by itself. A connection to it on the
/// sandbox's own loopback reaches the listener too, which sees a loopback address and refuses it.
const LISTENER: u16 = 65_534;
/// The port from which answers come.
const DNS: u16 = 53;
/// Connections that wait to be accepted: more than a program opens at once.
const BACKLOG: i32 = 512;
/// For a connection to oneself to be there: it is, or it never will be.
const TRIAL: Timespec = Timespec {
    tv_sec: 2,
    tv_nsec: 0,
};
/// The loopback's index in every network namespace.
const LO: u32 = 1;

/// What leads out of a sandbox's network.
pub(crate) struct Network {
    /// Listens on every address and port.
    pub(crate) tcp: OwnedFd,
    /// Gets every datagram to port 53.
    pub(crate) dns: OwnedFd,
    /// Where who carries says so, and the end that it does it with.
    line: OwnedFd,
    line_theirs: OwnedFd,
    steering: Steered,
}

/// By what connections come to the sockets.
enum Steered {
    /// Closed, nothing leads to them any more.
    Lookup(#[expect(dead_code, reason = "held open")] OwnedFd),
    /// Rules, which end with the network.
    Rules,
}

/// Moves this process into a new network: nothing but a loopback, which is up. It stays there: what is cloned from it
/// is born inside, and it needs no network itself.
pub(crate) fn alone() -> Result<()> {
    sys::new_network().during(NETWORK)?;
    sys::loopback_up().during(NETWORK)
}

impl Network {
    /// Makes all of it in the network that this process is in, which is to be new.
    pub(crate) fn make() -> Result<Self> {
        for interface in ["all", "lo"] {
            // Where it is not switched off nothing is to be written.
            let _ = fs::write(
                format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"),
                "0",
            );
        }
        routes().during(NETWORK)?;
        let tcp = socket(SocketType::STREAM, LISTENER).during(NETWORK)?;
        // What it accepts inherits this, and has the port that was dialled: a server of the sandbox's own may be on
        // that port all the same. Nobody can be on a port where somebody listens.
        sockopt::set_socket_reuseaddr(&tcp, true).during(NETWORK)?;
        listen(&tcp, BACKLOG).during(NETWORK)?;
        let dns = socket(SocketType::DGRAM, DNS).during(NETWORK)?;
        sys::tell_destination(dns.as_fd()).during(NETWORK)?;
        let steering = steer(tcp.as_fd(), dns.as_fd())?;
        let (line, line_theirs) = crate::control::pair().during(NETWORK)?;
        rustix::fs::fcntl_setfl(&line, OFlags::NONBLOCK).during(NETWORK)?;
        Ok(Self {
            tcp,
            dns,
            line,
            line_theirs,
            steering,
        })
    }

    /// What is handed on, in this order: the listener, the socket for DNS, the line of who carries.
    pub(crate) fn handed_on(&self) -> [BorrowedFd<'_>; 3] {
        let [tcp, dns] = self.ends();
        [tcp, dns, self.line_theirs.as_fd()]
    }

    /// The listener and the socket for DNS.
    pub(crate) fn ends(&self) -> [BorrowedFd<'_>; 2] {
        [self.tcp.as_fd(), self.dns.as_fd()]
    }

    /// By what connections come to the listener.
    pub(crate) fn steering(&self) -> Steering {
        match &self.steering {
            Steered::Lookup(_) => Steering::SkLookup,
            Steered::Rules => Steering::Tproxy,
        }
    }

    /// Shows that it does what it is for: what this process dials comes to the listener, over both families.
    pub(crate) fn try_it(&self) -> Result<()> {
        // Documentation addresses (RFC 5737, RFC 3849).
        self.reaches(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 9).into())
            .during(STEER)?;
        let six = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        self.reaches(SocketAddrV6::new(six, 9, 0, 0).into())
            .during(STEER)
    }

    fn reaches(&self, address: SocketAddr) -> io::Result<()> {
        let family = if address.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let client = socket_with(family, SocketType::STREAM, flags, None)?;
        match connect(&client, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut waiting = [PollFd::new(&self.tcp, PollFlags::IN)];
        poll(&mut waiting, Some(&TRIAL))?;
        accept_with(&self.tcp, flags)?;
        Ok(())
    }

    /// Where who carries says so.
    pub(crate) fn line(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }
}

/// Has the kernel bring everything to them. What refuses bpf(2) to us, a container around the server or the lack of
/// rights over the whole host, may allow rules in a network that is our own.
fn steer(tcp: BorrowedFd<'_>, dns: BorrowedFd<'_>) -> Result<Steered> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = rustix::fs::open("/proc/self/ns/net", flags, Mode::empty());
    let namespace = namespace.during(NETWORK)?;
    match sys::steer(namespace.as_fd(), tcp, dns) {
        Ok(link) => Ok(Steered::Lookup(link)),
        Err(refused) => match tproxy::steer((tcp, LISTENER), (dns, DNS)) {
            Ok(()) => Ok(Steered::Rules),
            // The first way is the one to mend.
            Err(_) => Err(refused).during(STEER),
        },
    }
}

/// A socket for both families.
fn socket(kind: SocketType, port: u16) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET6, kind, flags, None)?;
    sockopt::set_ipv6_v6only(&socket, false)?;
    // To answer from addresses that no interface has.
    sockopt::set_ipv6_freebind(&socket, true)?;
    bind(
        &socket,
        &SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0),
    )?;
    Ok(socket)
}

/// Every address is local. `src` keeps a connection from getting its destination as its own address, and from
/// meeting itself there. What no connection can have as its peer is told so at once.
fn routes() -> io::Result<()> {
    let netlink = Netlink::open(None)?;
    let loopback = Ipv4Addr::LOCALHOST.octets();
    let lo = || attribute(libc::RTA_OIF, &LO.to_ne_bytes());
    let from = attribute(libc::RTA_PREFSRC, &loopback);
    let all_v4 = route(libc::AF_INET, libc::RTN_LOCAL, 0, &[lo(), from]);
    let all_v6 = route(libc::AF_INET6, libc::RTN_LOCAL, 0, &[lo()]);
    let to = |group: &[u8]| attribute(libc::RTA_DST, group);
    let multicast_v4 = [to(&[224, 0, 0, 0])];
    let multicast_v4 = route(libc::AF_INET, libc::RTN_UNREACHABLE, 4, &multicast_v4);
    let mut group = [0; 16];
    group[0] = 0xff;
    let multicast_v6 = route(libc::AF_INET6, libc::RTN_UNREACHABLE, 8, &[to(&group)]);
    for route in [all_v4, all_v6, multicast_v4, multicast_v6] {
        netlink.ask(&route)?;
    }
    Ok(())
}

/// One route of the table `local` to a prefix of so many bits: `struct rtmsg` and its attributes (rtnetlink(7)).
fn route(family: libc::c_int, kind: u8, prefix: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
    let family = u8::try_from(family).expect("AF_INET and AF_INET6 are small");
    let scope = if kind == libc::RTN_LOCAL {
        libc::RT_SCOPE_HOST
    } else {
        libc::RT_SCOPE_UNIVERSE
    };
    let (table, by) = (libc::RT_TABLE_LOCAL, libc::RTPROT_STATIC);
    let head = [family, prefix, 0, 0, table, by, scope, kind, 0, 0, 0, 0];
    let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    message(libc::RTM_NEWROUTE, flags, &head, &attributes.concat())
}
