//! Owns the system-call policy of a sandbox. It knows no path and no user.
//!
//! One program, in three parts. The first answers EPERM to calls whose arguments are refused, the second leaves a
//! few calls undone, the third goes by the number: what is on a list is allowed, what is known and refused is
//! EPERM, everything else (unknown and new calls, x32 numbers, clone3, so that C libraries fall back) ENOSYS.
//! Foreign architectures (int 0x80) are killed by the compiler's prologue.
//!
//! One, and by a search instead of a long row of comparisons, since the kernel tries a filter with every number
//! when it is installed, which was a tenth of the time to make a sandbox.

mod allowed;
mod numbers;

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
/// As the kernel has them; their type differs between C libraries.
const RLIMIT_CORE: u64 = 4;
const RLIMIT_NPROC: u64 = 6;
/// Success, without the call.
const UNDONE: u32 = 0;

/// The filter, as the kernel takes it.
pub(crate) struct Filter(BpfProgram);

impl Filter {
    pub(crate) fn new() -> io::Result<Self> {
        program().map(Self)
    }

    /// Installs it for this process and all that it will start. There is no way back.
    pub(crate) fn install(&self) -> io::Result<()> {
        apply_filter(&self.0).map_err(io::Error::other)
    }
}

fn program() -> io::Result<BpfProgram> {
    let mut program = BpfProgram::new();
    for (rules, answer) in [(refused()?, EPERM), (undone()?, UNDONE)] {
        let part = compile(rules, SeccompAction::Allow, SeccompAction::Errno(answer))?;
        program.extend(numbers::passed_on(part)?);
    }
    let allowed = allowed::ALLOWED.iter().map(|call| (*call, numbers::ALLOW));
    let refused = allowed::REFUSED.iter();
    let refused = refused.map(|call| (*call, numbers::errno(EPERM)));
    let answers = allowed.chain(refused);
    program.extend(numbers::answered(answers, numbers::errno(ENOSYS))?);
    Ok(program)
}

fn compile(rules: Rules, other: SeccompAction, listed: SeccompAction) -> io::Result<BpfProgram> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, other, listed, arch).map_err(io::Error::other)?;
    filter.try_into().map_err(io::Error::other)
}

/// A comparison of the low 32 bits of an argument, which is what the kernel looks at in all of these.
fn word(argument: u8, op: SeccompCmpOp, value: u64) -> io::Result<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value).map_err(io::Error::other)
}

fn rule(conditions: Vec<SeccompCondition>) -> io::Result<SeccompRule> {
    SeccompRule::new(conditions).map_err(io::Error::other)
}

/// What counts by its arguments.
fn refused() -> io::Result<Rules> {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    let mut rules = Rules::new();
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
    // Limits of another process: those of the hand, which root inside could lower by its number or that of any of its
    // threads. Of those the filter cannot tell the number, so nobody's are changed but by itself; the hand changes one
    // of its children's, the number of processes, which therefore is left.
    let changed = SeccompCondition::new(2, SeccompCmpArgLen::Qword, Ne, 0);
    let others = vec![
        word(0, Ne, 0)?,
        // That of dumps is left undone below, whoever's it is.
        word(1, Ne, RLIMIT_CORE)?,
        word(1, Ne, RLIMIT_NPROC)?,
        changed.map_err(io::Error::other)?,
    ];
    let first = rule(vec![word(0, Eq, 1)?])?;
    rules.insert(libc::SYS_prlimit64, vec![first, rule(others)?]);
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

const _: () = assert!(libc::RLIMIT_CORE == 4 && libc::RLIMIT_NPROC == 6);
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

    /// What the kernel would answer. Source: bpf(4) and seccomp(2), `struct seccomp_data`.
    fn answer(program: &BpfProgram, call: u32, arguments: [u64; 6]) -> u32 {
        let mut data = call.to_ne_bytes().to_vec();
        data.extend(libc_arch().to_ne_bytes());
        data.extend([0; 8]);
        data.extend(arguments.iter().flat_map(|argument| argument.to_ne_bytes()));
        let (mut at, mut value) = (0, 0);
        loop {
            let op = &program[at];
            let holds = match u32::from(op.code) {
                0x06 => return op.k,
                0x20 => {
                    let from = usize::try_from(op.k).unwrap();
                    value = u32::from_ne_bytes(data[from..from + 4].try_into().unwrap());
                    at += 1;
                    continue;
                }
                0x54 => {
                    value &= op.k;
                    at += 1;
                    continue;
                }
                0x05 => {
                    at += 1 + usize::try_from(op.k).unwrap();
                    continue;
                }
                0x15 => value == op.k,
                0x25 => value > op.k,
                0x35 => value >= op.k,
                0x45 => value & op.k != 0,
                other => panic!("an instruction that no filter has: {other:#x}"),
            };
            at += 1 + usize::from(if holds { op.jt } else { op.jf });
        }
    }

    fn libc_arch() -> u32 {
        let machine = if cfg!(target_arch = "x86_64") {
            62
        } else {
            183
        };
        machine | 0xC000_0000
    }

    /// The same policy as three filters of their own, each a row of comparisons: what is installed has to answer
    /// as all of them together do.
    fn spelled_out() -> [BpfProgram; 3] {
        let row = |lists: &[&[i64]]| -> Rules {
            let calls = lists.iter().flat_map(|list| list.iter());
            calls.map(|call| (*call, Vec::new())).collect()
        };
        let mut eperm = row(&[allowed::REFUSED]);
        eperm.extend(refused().unwrap());
        let list = row(&[allowed::ALLOWED, allowed::REFUSED]);
        let (allow, errno) = (SeccompAction::Allow, SeccompAction::Errno);
        [
            compile(eperm, allow.clone(), errno(EPERM)).unwrap(),
            compile(undone().unwrap(), allow.clone(), errno(UNDONE)).unwrap(),
            compile(list, errno(ENOSYS), allow).unwrap(),
        ]
    }

    #[test]
    fn the_one_program_answers_as_its_three_parts_by_themselves_do() {
        let (program, parts) = (program().unwrap(), spelled_out());
        assert!(program.len() < 1024, "{}", program.len());
        let values = [
            0,
            1,
            2,
            3,
            4,
            6,
            8,
            16,
            17,
            38,
            0x5412,
            0x541C,
            0x5423,
            0x2_0000,
            0x1000_0000,
            0x4000_0000,
            0x7C02_0000,
            0xffff_ffff,
            0x1_0000_0000,
            u64::MAX,
        ];
        let keys = |rules: io::Result<Rules>| rules.unwrap().into_keys();
        let by_arguments: Vec<i64> = keys(refused()).chain(keys(undone())).collect();
        for call in (0..1024).chain([0x4000_0000, 0x4000_0001, u32::MAX]) {
            let [eperm, left_undone, list] = &parts;
            // Whatever the arguments.
            let known = answer(list, call, [0; 6]);
            let values = if by_arguments.contains(&i64::from(call)) {
                &values[..]
            } else {
                &values[..1]
            };
            for (first, second, third) in triples(values) {
                let arguments = [first, second, third, 0, 0, 0];
                let single = [
                    answer(eperm, call, arguments),
                    answer(left_undone, call, arguments),
                    known,
                ];
                let wanted = single.into_iter().find(|one| *one != numbers::ALLOW);
                let got = answer(&program, call, arguments);
                assert_eq!(
                    got,
                    wanted.unwrap_or(numbers::ALLOW),
                    "{call} {arguments:x?}"
                );
            }
        }
    }

    fn triples(values: &[u64]) -> impl Iterator<Item = (u64, u64, u64)> {
        let pairs = values
            .iter()
            .flat_map(|first| values.iter().map(move |second| (*first, *second)));
        pairs.flat_map(|(first, second)| values.iter().map(move |third| (first, second, *third)))
    }

    #[test]
    fn another_architecture_is_killed() {
        let program = program().unwrap();
        // The comparison with the right one is the second instruction, and the third is what follows on another.
        assert_eq!(program[1].k, libc_arch());
        assert_eq!(program[2].k, libc::SECCOMP_RET_KILL_PROCESS);
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
