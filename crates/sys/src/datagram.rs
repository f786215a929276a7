//! Owns datagrams with the address that they were sent to, which an answer must come from. It reads no
//! content.

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Room for one `IPV6_PKTINFO`, aligned as control messages have to be.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Takes one datagram: its length, who sent it, and to which address. One that is longer than `buffer` is cut.
///
/// # Errors
/// The errno of recvmsg; `InvalidData` when the kernel does not say where it was sent to.
pub fn receive_to(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<(usize, SocketAddr, IpAddr)> {
    // SAFETY: sockaddr_in6 and msghdr are plain old data for which all zeroes is a valid value.
    let (mut peer, mut message): (libc::sockaddr_in6, libc::msghdr) =
        unsafe { (zeroed(), zeroed()) };
    let mut control = Control([0; 64]);
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    message.msg_name = (&raw mut peer).cast();
    message.msg_namelen = int_size::<libc::sockaddr_in6>();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: every pointer of `message` is to memory of the length it names, borrowed for the whole call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: CMSG_LEN only computes.
    let whole = unsafe { libc::CMSG_LEN(int_size::<libc::in6_pktinfo>()) } as usize;
    // SAFETY: the kernel has filled `control` and said how much of it; CMSG_FIRSTHDR and CMSG_NXTHDR stay
    // within that with each header, but not with what follows it: a message that was cut is shorter than its
    // type (cmsg(3)), so its length is looked at before it is read as an in6_pktinfo, unaligned.
    let to = unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        loop {
            if header.is_null() {
                break None;
            }
            if (*header).cmsg_level == libc::IPPROTO_IPV6
                && (*header).cmsg_type == libc::IPV6_PKTINFO
                && (*header).cmsg_len as usize >= whole
            {
                let info: libc::in6_pktinfo = ptr::read_unaligned(libc::CMSG_DATA(header).cast());
                break Some(Ipv6Addr::from(info.ipi6_addr.s6_addr));
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    };
    let to = to.ok_or(io::ErrorKind::InvalidData)?;
    if i32::from(peer.sin6_family) != libc::AF_INET6 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let address = Ipv6Addr::from(peer.sin6_addr.s6_addr);
    let port = u16::from_be(peer.sin6_port);
    let peer = SocketAddrV6::new(address, port, peer.sin6_flowinfo, peer.sin6_scope_id);
    Ok((length, SocketAddr::V6(peer), IpAddr::V6(to)))
}

/// Sends one datagram to `peer` as if from the address `from`, both as [`receive_to`] gave them. Never waits.
///
/// # Errors
/// The errno of sendmsg; `InvalidInput` for an address that is not of IPv6.
pub fn send_from(
    socket: BorrowedFd<'_>,
    content: &[u8],
    peer: SocketAddr,
    from: IpAddr,
) -> io::Result<()> {
    let (SocketAddr::V6(peer), IpAddr::V6(from)) = (peer, from) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // SAFETY: sockaddr_in6 and msghdr are plain old data for which all zeroes is a valid value.
    let (mut to, mut message): (libc::sockaddr_in6, libc::msghdr) = unsafe { (zeroed(), zeroed()) };
    to.sin6_family = libc::sa_family_t::try_from(libc::AF_INET6).map_err(io::Error::other)?;
    to.sin6_port = peer.port().to_be();
    to.sin6_addr.s6_addr = peer.ip().octets();
    to.sin6_scope_id = peer.scope_id();
    let info = libc::in6_pktinfo {
        ipi6_addr: libc::in6_addr {
            s6_addr: from.octets(),
        },
        ipi6_ifindex: 0,
    };
    let mut control = Control([0; 64]);
    let mut part = libc::iovec {
        iov_base: content.as_ptr().cast_mut().cast(),
        iov_len: content.len(),
    };
    message.msg_name = (&raw mut to).cast();
    message.msg_namelen = int_size::<libc::sockaddr_in6>();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: CMSG_SPACE and CMSG_LEN only compute.
    let (space, length) = unsafe {
        let size = int_size::<libc::in6_pktinfo>();
        (libc::CMSG_SPACE(size), libc::CMSG_LEN(size))
    };
    message.msg_controllen = space as _;
    // SAFETY: `control` has room for one header and an in6_pktinfo (asserted below) and is aligned for it, so
    // the first header is there; the kernel only reads what `message` points to, all borrowed for the call.
    let answer = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::IPPROTO_IPV6;
        (*header).cmsg_type = libc::IPV6_PKTINFO;
        (*header).cmsg_len = length as _;
        ptr::write_unaligned(libc::CMSG_DATA(header).cast(), info);
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        libc::sendmsg(socket.as_raw_fd(), &raw const message, flags)
    };
    if answer == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

const _: () = assert!(
    size_of::<libc::cmsghdr>() + size_of::<libc::in6_pktinfo>() + 16 <= size_of::<Control>()
);
const _: () = assert!(align_of::<Control>() >= align_of::<libc::cmsghdr>());

/// The size of a type as the socket calls want it.
fn int_size<T>() -> libc::c_uint {
    // Only for the small types above.
    size_of::<MaybeUninit<T>>() as libc::c_uint
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_datagram_tells_where_it_was_sent_and_is_answered_from_there() {
        let socket = UdpSocket::bind("[::]:0").unwrap();
        crate::tell_destination(socket.as_fd()).unwrap();
        let port = socket.local_addr().unwrap().port();
        for (asked, mapped) in [("127.0.0.3", "::ffff:127.0.0.3"), ("::1", "::1")] {
            let any = if asked.contains(':') {
                "[::]:0"
            } else {
                "0.0.0.0:0"
            };
            let client = UdpSocket::bind(any).unwrap();
            // Connected: what comes from another address is not taken.
            client.connect((asked, port)).unwrap();
            client.send(b"question").unwrap();
            let mut buffer = [0; 64];
            let (length, peer, to) = receive_to(socket.as_fd(), &mut buffer).unwrap();
            assert_eq!(
                (&buffer[..length], to),
                (&b"question"[..], mapped.parse().unwrap())
            );
            send_from(socket.as_fd(), b"answer", peer, to).unwrap();
            assert_eq!(client.recv(&mut buffer).unwrap(), 6);
        }
    }
}
