//! Owns the system-call policy of a sandbox. It knows no path and no user.
//!
//! Three filters, all in force: one allows a list and answers ENOSYS to everything else (unknown
//! and new calls, x32 numbers, clone3, so that C libraries fall back); one answers EPERM to what is
//! known and refused; one leaves a few calls undone. Foreign architectures (int 0x80) are killed by
//! the compiler's prologue.

mod allowed;

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use rustix::io::Errno;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// `EPERM`, as a filter returns it.
const EPERM: u32 = 1;
/// `ENOSYS`.
const ENOSYS: u32 = 38;
/// As the kernel has it; its type differs between C libraries.
const RLIMIT_CORE: u64 = 4;
/// Success, without the call.
const UNDONE: u32 = 0;

/// Installs the filters for this process and all that it will start. There is no way back.
pub(crate) fn install() -> io::Result<()> {
    let refusals = compile(
        refused()?,
        SeccompAction::Allow,
        SeccompAction::Errno(EPERM),
    )?;
    let list = compile(
        allowed_rules(),
        SeccompAction::Errno(ENOSYS),
        SeccompAction::Allow,
    )?;
    let undone = compile(
        undone()?,
        SeccompAction::Allow,
        SeccompAction::Errno(UNDONE),
    )?;
    // Where two answer, the one installed last counts.
    for program in [list, undone, refusals] {
        apply_filter(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

fn compile(rules: Rules, other: SeccompAction, listed: SeccompAction) -> io::Result<BpfProgram> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, other, listed, arch).map_err(io::Error::other)?;
    filter.try_into().map_err(io::Error::other)
}

/// Allowed calls, and the refused ones, which the other filter answers.
fn allowed_rules() -> Rules {
    allowed::ALLOWED
        .iter()
        .chain(allowed::REFUSED)
        .map(|call| (*call, Vec::new()))
        .collect()
}

/// A comparison of the low 32 bits of an argument, which is what the kernel looks at in all of these.
fn word(argument: u8, op: SeccompCmpOp, value: u64) -> io::Result<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value).map_err(io::Error::other)
}

fn rule(conditions: Vec<SeccompCondition>) -> io::Result<SeccompRule> {
    SeccompRule::new(conditions).map_err(io::Error::other)
}

fn refused() -> io::Result<Rules> {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    let mut rules: Rules = allowed::REFUSED
        .iter()
        .map(|call| (*call, Vec::new()))
        .collect();
    let mut clone = Vec::new();
    for flag in [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
    ] {
        let flag = u64::from(flag.cast_unsigned());
        clone.push(rule(vec![word(0, MaskedEq(flag), flag)?])?);
    }
    rules.insert(libc::SYS_clone, clone);
    // Pushing characters into a terminal, the console's variant of it, and line disciplines, each
    // of which is a driver of its own.
    let injections = [0x5412, 0x541C, 0x5423].map(|request| rule(vec![word(1, Eq, request)?]));
    rules.insert(
        libc::SYS_ioctl,
        injections.into_iter().collect::<io::Result<_>>()?,
    );
    rules.insert(libc::SYS_socket, sockets()?);
    let not_unix = word(0, Ne, u64::from(libc::AF_UNIX.cast_unsigned()))?;
    rules.insert(libc::SYS_socketpair, vec![rule(vec![not_unix])?]);
    let mut not_known = Vec::new();
    for persona in [0, 0x8, 0x2_0000, 0x4_0000, 0xffff_ffff] {
        not_known.push(word(0, Ne, persona)?);
    }
    rules.insert(libc::SYS_personality, vec![rule(not_known)?]);
    // The hand's limits: its root inside could lower them. (A filter sees no other name of it.)
    rules.insert(libc::SYS_prlimit64, vec![rule(vec![word(0, Eq, 1)?])?]);
    Ok(rules)
}

/// Every change of the limit of core dumps. The limit is one byte, see `privileges`; none, which
/// programs with keys ask for, would make the kernel run the host's handler of dumps, if it has one.
/// They get what they want, no dump, and some of them end when they are refused it: gpg, say.
fn undone() -> io::Result<Rules> {
    use SeccompCmpOp::{Eq, Ne};
    let no_new_limit = SeccompCondition::new(2, SeccompCmpArgLen::Qword, Ne, 0);
    let changes = rule(vec![
        word(1, Eq, RLIMIT_CORE)?,
        no_new_limit.map_err(io::Error::other)?,
    ])?;
    Ok(Rules::from([
        (
            libc::SYS_setrlimit,
            vec![rule(vec![word(0, Eq, RLIMIT_CORE)?])?],
        ),
        (libc::SYS_prlimit64, vec![changes]),
    ]))
}

/// All but: unix; TCP and UDP over IPv4 and IPv6; route netlink.
fn sockets() -> io::Result<Vec<SeccompRule>> {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    let family = |value: i32| u64::from(value.cast_unsigned());
    let mut other = Vec::new();
    for known in [
        libc::AF_UNIX,
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_NETLINK,
    ] {
        other.push(word(0, Ne, family(known))?);
    }
    let mut rules = vec![
        rule(other)?,
        rule(vec![
            word(0, Eq, family(libc::AF_NETLINK))?,
            word(2, Ne, 0)?,
        ])?,
    ];
    let kind = |value: i32| word(1, MaskedEq(0xf), family(value));
    for inet in [libc::AF_INET, libc::AF_INET6] {
        let inet = || word(0, Eq, family(inet));
        for (of, protocol) in [
            (libc::SOCK_STREAM, libc::IPPROTO_TCP),
            (libc::SOCK_DGRAM, libc::IPPROTO_UDP),
        ] {
            let other = word(2, Ne, family(protocol))?;
            let named = word(2, Ne, 0)?;
            rules.push(rule(vec![inet()?, kind(of)?, named, other])?);
        }
        // Neither 1 nor 2: nothing, both bits, or a higher one.
        for (mask, bits) in [(0xf, 0), (0x3, 0x3), (0x4, 0x4), (0x8, 0x8)] {
            rules.push(rule(vec![inet()?, word(1, MaskedEq(mask), bits)?])?);
        }
    }
    Ok(rules)
}

const _: () = assert!(libc::RLIMIT_CORE == 4);
const _: () = assert!(libc::SOCK_STREAM == 1 && libc::SOCK_DGRAM == 2);
const _: () = assert!(Errno::PERM.raw_os_error() == EPERM.cast_signed());
const _: () = assert!(Errno::NOSYS.raw_os_error() == ENOSYS.cast_signed());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_both_allowed_and_refused() {
        for call in allowed::REFUSED {
            assert!(!allowed::ALLOWED.contains(call), "{call}");
        }
    }

    #[test]
    fn the_filters_fit_the_kernel() {
        for rules in [refused().unwrap(), undone().unwrap(), allowed_rules()] {
            let program = compile(rules, SeccompAction::Errno(ENOSYS), SeccompAction::Allow);
            assert!(program.unwrap().len() < 4096);
        }
    }

    #[test]
    fn what_makes_namespaces_and_mounts_is_not_allowed() {
        for call in [
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_mount,
            libc::SYS_clone3,
            libc::SYS_bpf,
        ] {
            assert!(!allowed::ALLOWED.contains(&call), "{call}");
        }
    }
}
