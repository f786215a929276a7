//! Owns how the kernel is told of routes and rules: messages, their attributes, and the answer to them (netlink(7)).
//! It knows none of what they say.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

/// Marks an attribute that is made of attributes.
const NESTED: u16 = 0x8000;
/// Bytes of a message's header, behind which an answer has its errno.
const HEADER: usize = 16;

/// A conversation with one part of the kernel about the network of this process.
pub(crate) struct Netlink(OwnedFd);

impl Netlink {
    /// With routes, or with that part.
    pub(crate) fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        Ok(Self(socket_with(
            family,
            kind,
            SocketFlags::CLOEXEC,
            protocol,
        )?))
    }

    /// Sends messages at once, the last of which asks for an answer, and waits for the first that comes: the failure
    /// of any of them, or that all is done.
    pub(crate) fn ask(&self, messages: &[u8]) -> io::Result<()> {
        send(&self.0, messages, SendFlags::empty())?;
        let mut answer = [0_u8; 256];
        let (length, _) = recv(&self.0, &mut answer, RecvFlags::empty())?;
        // Negative; 0 for success.
        let errno = answer[..length]
            .get(HEADER..HEADER + 4)
            .and_then(|it| it.try_into().ok());
        match errno.map(i32::from_ne_bytes) {
            Some(0) => Ok(()),
            Some(errno) => Err(Errno::from_raw_os_error(-errno).into()),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// One message: its header, the header of its family, its attributes.
pub(crate) fn message(kind: u16, flags: libc::c_int, head: &[u8], attributes: &[u8]) -> Vec<u8> {
    let flags = u16::try_from(libc::NLM_F_REQUEST | flags).expect("flags of netlink are 16 bits");
    let length = u32::try_from(HEADER + head.len() + attributes.len());
    let mut message = length
        .expect("messages here are short")
        .to_ne_bytes()
        .to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence and sender: there is one question at a time.
    message.extend([0; 8]);
    message.extend(head);
    message.extend(attributes);
    message
}

/// One attribute, filled up to four bytes.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("attributes here are short");
    let mut attribute = length.to_ne_bytes().to_vec();
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// One attribute that is made of those.
pub(crate) fn nested(kind: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &attributes.concat())
}
