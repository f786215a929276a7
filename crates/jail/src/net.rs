//! Owns a sandbox's network namespace and what leads out of it: two sockets. It carries nothing itself, and
//! there is never another way out: the only interface is the loopback.
//!
//! Every address is made local, so a program's `connect` ends on this host whatever it names, and the kernel's
//! `sk_lookup` brings it to [`Network::tcp`]; whoever holds that reads from the accepted connection's own
//! address what was asked for. UDP to port 53 comes to [`Network::dns`], other UDP finds nobody. All of it
//! stands before the first process of the sandbox, and as long as the supervisor: without anybody who accepts,
//! nothing is carried (`carrier`).

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, listen, recv, send,
    socket_with, sockopt,
};

use crate::error::{During, Result};

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
    /// Closed, nothing leads to the sockets any more.
    _steering: OwnedFd,
}

impl Network {
    /// Moves this process into a new network namespace and makes all of it. It stays there: what is cloned
    /// from it is born inside, and it needs no network itself.
    pub(crate) fn make() -> Result<Self> {
        sys::new_network().during(NETWORK)?;
        sys::loopback_up().during(NETWORK)?;
        for interface in ["all", "lo"] {
            // Where it is not switched off nothing is to be written.
            let _ = fs::write(
                format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"),
                "0",
            );
        }
        routes().during(NETWORK)?;
        let tcp = socket(SocketType::STREAM, LISTENER).during(NETWORK)?;
        listen(&tcp, BACKLOG).during(NETWORK)?;
        let dns = socket(SocketType::DGRAM, DNS).during(NETWORK)?;
        sys::tell_destination(dns.as_fd()).during(NETWORK)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let namespace = rustix::fs::open("/proc/self/ns/net", flags, Mode::empty());
        let namespace = namespace.during(NETWORK)?;
        let steering = sys::steer(namespace.as_fd(), tcp.as_fd(), dns.as_fd()).during(STEER)?;
        let (line, line_theirs) = crate::control::pair().during(NETWORK)?;
        rustix::fs::fcntl_setfl(&line, OFlags::NONBLOCK).during(NETWORK)?;
        Ok(Self {
            tcp,
            dns,
            line,
            line_theirs,
            _steering: steering,
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

    /// Where who carries says so.
    pub(crate) fn line(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
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
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let loopback = Ipv4Addr::LOCALHOST.octets();
    let all_v4 = Route::new(libc::AF_INET, libc::RTN_LOCAL);
    add(&socket, &all_v4.out(LO).from(&loopback))?;
    let all_v6 = Route::new(libc::AF_INET6, libc::RTN_LOCAL);
    add(&socket, &all_v6.out(LO))?;
    let multicast = Route::new(libc::AF_INET, libc::RTN_UNREACHABLE);
    add(&socket, &multicast.to(&[224, 0, 0, 0], 4))?;
    let multicast = Route::new(libc::AF_INET6, libc::RTN_UNREACHABLE);
    let mut group = [0; 16];
    group[0] = 0xff;
    add(&socket, &multicast.to(&group, 8))
}

/// One route of the table `local`, as `struct rtmsg` and its attributes (rtnetlink(7)).
struct Route {
    head: [u8; 12],
    attributes: Vec<u8>,
}

impl Route {
    fn new(family: libc::c_int, kind: u8) -> Self {
        const PREFIX_LENGTH: u8 = 0;
        let family = u8::try_from(family).expect("AF_INET and AF_INET6 are small");
        let scope = if kind == libc::RTN_LOCAL {
            libc::RT_SCOPE_HOST
        } else {
            libc::RT_SCOPE_UNIVERSE
        };
        let (table, by) = (libc::RT_TABLE_LOCAL, libc::RTPROT_STATIC);
        Self {
            head: [
                family,
                PREFIX_LENGTH,
                0,
                0,
                table,
                by,
                scope,
                kind,
                0,
                0,
                0,
                0,
            ],
            attributes: Vec::new(),
        }
    }

    fn to(mut self, address: &[u8], prefix: u8) -> Self {
        self.head[1] = prefix;
        self.attribute(libc::RTA_DST, address)
    }

    fn out(self, interface: u32) -> Self {
        self.attribute(libc::RTA_OIF, &interface.to_ne_bytes())
    }

    fn from(self, address: &[u8]) -> Self {
        self.attribute(libc::RTA_PREFSRC, address)
    }

    /// Of 4 or 16 bytes, so nothing has to be filled up.
    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).expect("an address is short");
        self.attributes.extend(length.to_ne_bytes());
        self.attributes.extend(kind.to_ne_bytes());
        self.attributes.extend(value);
        self
    }

    /// The whole message, which asks for an answer.
    fn message(&self) -> Vec<u8> {
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let flags = u16::try_from(flags).expect("flags of netlink are 16 bits");
        let length = u32::try_from(16 + self.head.len() + self.attributes.len());
        let mut message = length.expect("a route is short").to_ne_bytes().to_vec();
        message.extend(libc::RTM_NEWROUTE.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        // Sequence and sender: there is one question at a time.
        message.extend([0; 8]);
        message.extend(self.head);
        message.extend(&self.attributes);
        message
    }
}

fn add(socket: &OwnedFd, route: &Route) -> io::Result<()> {
    send(socket, &route.message(), SendFlags::empty())?;
    let mut answer = [0_u8; 256];
    let (length, _) = recv(socket, &mut answer, RecvFlags::empty())?;
    // The header, then the errno, negative; 0 for success.
    let errno = answer[..length]
        .get(16..20)
        .and_then(|it| it.try_into().ok());
    match errno.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(errno) => Err(Errno::from_raw_os_error(-errno).into()),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}
