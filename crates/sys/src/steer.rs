//! Owns the kernel's hook that brings every connection of a network namespace to one socket (`sk_lookup`,
//! Linux 5.9). It decides nothing about what is connected to: that is for whoever holds the sockets.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Commands, types and attach points of bpf(2), as linux/bpf.h numbers them.
const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;
const MAP_TYPE_SOCKMAP: u32 = 15;
const PROG_TYPE_SK_LOOKUP: u32 = 30;
const ATTACH_SK_LOOKUP: u32 = 36;

/// No helper that the program calls asks for a licence that is compatible with the kernel's.
const LICENSE: &CStr = c"Apache-2.0";

/// Places of the map.
const TCP: u32 = 0;
const DNS: u32 = 1;

/// One instruction, as the kernel reads it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Insn {
    code: u8,
    /// Destination in the low four bits, source in the high ones (little endian; the other way round on a
    /// big-endian machine).
    registers: u8,
    offset: i16,
    immediate: i32,
}

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

#[repr(C)]
struct MapUpdate {
    map_fd: u32,
    unused: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
}

// What the fields come to without gaps: the kernel reads every byte of each.
const _: () = assert!(size_of::<Insn>() == 8 && size_of::<MapCreate>() == 20);
const _: () = assert!(size_of::<MapUpdate>() == 32 && size_of::<ProgLoad>() == 72);
const _: () = assert!(size_of::<LinkCreate>() == 16);

/// Brings all TCP of the network namespace `netns`, whatever the address and port, to the listener `tcp`, and
/// UDP to port 53 of any address to `dns`. Other UDP, and every other protocol that asks for a socket, finds
/// none. The namespace's own loopback (127/8, ::1) is left alone. It is so until what is returned is closed.
///
/// # Errors
/// The errno of bpf(2): `EPERM` without CAP_BPF and CAP_NET_ADMIN, `EINVAL` before Linux 5.9, `ENOSYS`.
pub fn steer(
    netns: BorrowedFd<'_>,
    tcp: BorrowedFd<'_>,
    dns: BorrowedFd<'_>,
) -> io::Result<OwnedFd> {
    let map = map(2)?;
    put(&map, TCP, tcp)?;
    put(&map, DNS, dns)?;
    let program = load(&program(map.as_raw_fd()))?;
    let link = LinkCreate {
        prog_fd: program.as_raw_fd().cast_unsigned(),
        target_fd: netns.as_raw_fd().cast_unsigned(),
        attach_type: ATTACH_SK_LOOKUP,
        flags: 0,
    };
    // SAFETY: `link` is what LINK_CREATE reads, of the size passed; its descriptors are borrowed and open.
    let answer = unsafe { bpf(LINK_CREATE, &link) }?;
    // SAFETY: on success LINK_CREATE answers a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(answer) })
}

fn map(entries: u32) -> io::Result<OwnedFd> {
    let map = MapCreate {
        map_type: MAP_TYPE_SOCKMAP,
        key_size: 4,
        value_size: 8,
        max_entries: entries,
        map_flags: 0,
    };
    // SAFETY: `map` is what MAP_CREATE reads, of the size passed, and points to nothing.
    let answer = unsafe { bpf(MAP_CREATE, &map) }?;
    // SAFETY: on success MAP_CREATE answers a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(answer) })
}

fn put(map: &OwnedFd, key: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
    let value = u64::from(socket.as_raw_fd().cast_unsigned());
    let update = MapUpdate {
        map_fd: map.as_raw_fd().cast_unsigned(),
        unused: 0,
        key: &raw const key as u64,
        value: &raw const value as u64,
        flags: 0,
    };
    // SAFETY: key and value have the sizes that the map was made with and live through the call, which only
    // reads them; the descriptors are borrowed and open.
    unsafe { bpf(MAP_UPDATE_ELEM, &update) }?;
    Ok(())
}

fn load(program: &[Insn]) -> io::Result<OwnedFd> {
    let load = ProgLoad {
        prog_type: PROG_TYPE_SK_LOOKUP,
        insn_cnt: u32::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        insns: program.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name: *b"longhand_egress\0",
        prog_ifindex: 0,
        expected_attach_type: ATTACH_SK_LOOKUP,
    };
    // SAFETY: instructions and licence live through the call, which only reads them, as many as said. What
    // the program may do is for the kernel's verifier, not for this process's memory.
    let answer = unsafe { bpf(PROG_LOAD, &load) }?;
    // SAFETY: on success PROG_LOAD answers a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(answer) })
}

/// # Safety
/// `T` is the part of `union bpf_attr` that `command` reads, and what it points to lives and is as long as the
/// command expects.
unsafe fn bpf<T>(command: libc::c_int, attr: &T) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of `attr`, which is borrowed; the rest is the caller's
    // promise.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attr, size_of::<T>()) };
    match libc::c_int::try_from(answer) {
        Ok(answer) if answer >= 0 => Ok(answer),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The program, for `struct bpf_sk_lookup`: pass the loopback, choose a place of the map by protocol and port,
/// assign the socket there, drop the rest.
fn program(map: libc::c_int) -> Vec<Insn> {
    // Offsets in `struct bpf_sk_lookup` (linux/bpf.h).
    const FAMILY: i16 = 8;
    const PROTOCOL: i16 = 12;
    const LOCAL_IP4: i16 = 40;
    const LOCAL_IP6: i16 = 44;
    const LOCAL_PORT: i16 = 60;
    // Helpers.
    const MAP_LOOKUP_ELEM: i32 = 1;
    const SK_RELEASE: i32 = 86;
    const SK_ASSIGN: i32 = 124;
    // Addresses in the order of the network, as a load of 32 bits shows them here.
    let first_octet = i32::from_ne_bytes([255, 0, 0, 0]);
    let loopback = i32::from_ne_bytes([127, 0, 0, 0]);
    let one = i32::from_ne_bytes([0, 0, 0, 1]);

    let mut asm = Assembler::default();
    asm.copy(6, 1);
    asm.load(0, 6, FAMILY);
    asm.unless_equal(0, libc::AF_INET, "six");
    asm.load(0, 6, LOCAL_IP4);
    asm.and(0, first_octet);
    asm.if_equal(0, loopback, "pass");
    asm.jump("steer");
    asm.label("six");
    for word in 0..3 {
        asm.load(0, 6, LOCAL_IP6 + 4 * word);
        asm.unless_equal(0, 0, "steer");
    }
    asm.load(0, 6, LOCAL_IP6 + 12);
    asm.if_equal(0, one, "pass");
    asm.label("steer");
    asm.load(0, 6, PROTOCOL);
    asm.set(7, TCP.cast_signed());
    asm.if_equal(0, libc::IPPROTO_TCP, "find");
    asm.unless_equal(0, libc::IPPROTO_UDP, "drop");
    asm.set(7, DNS.cast_signed());
    asm.load(0, 6, LOCAL_PORT);
    asm.unless_equal(0, 53, "drop");
    asm.label("find");
    asm.store(10, -4, 7);
    asm.load_map(1, map);
    asm.copy(2, 10);
    asm.add(2, -4);
    asm.call(MAP_LOOKUP_ELEM);
    asm.if_equal(0, 0, "drop");
    asm.copy(7, 0);
    asm.copy(1, 6);
    asm.copy(2, 7);
    asm.set(3, 0);
    asm.call(SK_ASSIGN);
    asm.copy(8, 0);
    asm.copy(1, 7);
    asm.call(SK_RELEASE);
    asm.unless_equal(8, 0, "drop");
    asm.label("pass");
    asm.set(0, 1);
    asm.exit();
    asm.label("drop");
    asm.set(0, 0);
    asm.exit();
    asm.finish()
}

/// Instructions with names for the places that are jumped to.
#[derive(Default)]
struct Assembler {
    insns: Vec<Insn>,
    labels: Vec<(&'static str, usize)>,
    jumps: Vec<(usize, &'static str)>,
}

impl Assembler {
    fn push(&mut self, code: u8, to: u8, from: u8, offset: i16, immediate: i32) {
        let registers = if cfg!(target_endian = "little") {
            to | from << 4
        } else {
            to << 4 | from
        };
        self.insns.push(Insn {
            code,
            registers,
            offset,
            immediate,
        });
    }

    fn copy(&mut self, to: u8, from: u8) {
        self.push(0xbf, to, from, 0, 0);
    }

    fn set(&mut self, to: u8, value: i32) {
        self.push(0xb7, to, 0, 0, value);
    }

    fn add(&mut self, to: u8, value: i32) {
        self.push(0x07, to, 0, 0, value);
    }

    /// Of the lower 32 bits; the upper ones become zero.
    fn and(&mut self, to: u8, value: i32) {
        self.push(0x54, to, 0, 0, value);
    }

    /// 32 bits.
    fn load(&mut self, to: u8, from: u8, offset: i16) {
        self.push(0x61, to, from, offset, 0);
    }

    /// 32 bits.
    fn store(&mut self, to: u8, offset: i16, from: u8) {
        self.push(0x63, to, from, offset, 0);
    }

    fn load_map(&mut self, to: u8, map: libc::c_int) {
        const PSEUDO_MAP_FD: u8 = 1;
        self.push(0x18, to, PSEUDO_MAP_FD, 0, map);
        self.push(0, 0, 0, 0, 0);
    }

    fn call(&mut self, helper: i32) {
        self.push(0x85, 0, 0, 0, helper);
    }

    fn exit(&mut self) {
        self.push(0x95, 0, 0, 0, 0);
    }

    fn label(&mut self, name: &'static str) {
        self.labels.push((name, self.insns.len()));
    }

    fn jump(&mut self, to: &'static str) {
        self.jumps.push((self.insns.len(), to));
        self.push(0x05, 0, 0, 0, 0);
    }

    /// Compares 32 bits: a loaded word is not sign-extended.
    fn if_equal(&mut self, register: u8, value: i32, to: &'static str) {
        self.jumps.push((self.insns.len(), to));
        // A pointer that may be null is compared in all its bits.
        let code = if value == 0 { 0x15 } else { 0x16 };
        self.push(code, register, 0, 0, value);
    }

    fn unless_equal(&mut self, register: u8, value: i32, to: &'static str) {
        self.jumps.push((self.insns.len(), to));
        let code = if value == 0 { 0x55 } else { 0x56 };
        self.push(code, register, 0, 0, value);
    }

    fn finish(mut self) -> Vec<Insn> {
        for (at, to) in self.jumps {
            let found = self.labels.iter().find(|(name, _)| *name == to);
            let distance = found.and_then(|(_, place)| i16::try_from(*place - at - 1).ok());
            self.insns[at].offset = distance.expect("every jump goes forward, to a label above");
        }
        self.insns
    }
}
