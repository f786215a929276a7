//! Owns the calling process's network namespace: a new one, its loopback, and the options of its sockets
//! that nothing else offers. It sets no route.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// Brings `lo` up in the network namespace of the caller.
///
/// # Errors
/// The errno of socket or ioctl; `EPERM` without CAP_NET_ADMIN over that namespace.
pub fn loopback_up() -> io::Result<()> {
    let socket: OwnedFd = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: ifreq is plain old data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes_with_nul()) {
        *to = from.cast_signed() as libc::c_char;
    }
    let up = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING);
    request.ifr_ifru.ifru_flags = up.map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: checked against netdevice(7): SIOCSIFFLAGS reads one ifreq, of which the name (null-terminated
    // above) and the flags count; it is valid, lives through the call and is not written to.
    let answer = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            &raw const request,
        )
    };
    if answer == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Moves this process, which must have one thread, into a new network namespace: nothing but a loopback
/// interface that is down. It belongs to the user namespace of the caller.
///
/// # Errors
/// The errno of unshare; `EPERM` without CAP_SYS_ADMIN.
pub fn new_network() -> io::Result<()> {
    // SAFETY: touches no memory and no descriptor; with this flag alone nothing but the network of what is
    // opened from now on changes.
    match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets a socket of both families be given packets that are for other addresses and ports than its own: what rules
/// of nf_tables ask of it (`tproxy`).
///
/// # Errors
/// The errno of setsockopt; `EPERM` without CAP_NET_ADMIN over the socket's network.
pub fn take_for_others(socket: BorrowedFd<'_>) -> io::Result<()> {
    switch_on(socket, libc::IPV6_TRANSPARENT)
}

/// Has the kernel say of each datagram on this IPv6 socket, IPv4 ones included, where it was sent to.
///
/// # Errors
/// The errno of setsockopt.
pub fn tell_destination(socket: BorrowedFd<'_>) -> io::Result<()> {
    switch_on(socket, libc::IPV6_RECVPKTINFO)
}

/// One of the options that ipv6(7) and linux/in6.h have as an int which is on or off.
fn switch_on(socket: BorrowedFd<'_>, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>());
    // SAFETY: an option reads no more than the length that is passed, which is that of the int it points to; that
    // lives through the call, and the descriptor is borrowed and open.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            option,
            (&raw const on).cast(),
            length.map_err(|_| io::ErrorKind::InvalidInput)?,
        )
    };
    if answer == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
