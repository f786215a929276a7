//! Owns how answers that depend on a call's number alone become a program, and how programs follow one another. It
//! knows no call.

use std::io;

use seccompiler::sock_filter;

/// The call is made.
pub(super) const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

/// Where the number stands in what a program looks at. Source: seccomp(2), `struct seccomp_data`.
const NUMBER: u32 = 0;
/// `BPF_LD | BPF_W | BPF_ABS`: take a word of what is looked at.
const LOAD: u16 = 0x20;
/// `BPF_JMP | BPF_JGE | BPF_K`.
const IF_AT_LEAST: u16 = 0x35;
/// `BPF_JMP | BPF_JA`.
const JUMP: u16 = 0x05;
/// `BPF_RET | BPF_K`.
const ANSWER: u16 = 0x06;

/// The call is not made, and answered so.
pub(super) fn errno(errno: u32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno
}

/// A program that looks at the number only. Of a call that is named twice, the answer is one of the two.
///
/// # Errors
/// `InvalidInput` for a number that no call has.
pub(super) fn answered(
    answers: impl Iterator<Item = (i64, u32)>,
    otherwise: u32,
) -> io::Result<Vec<sock_filter>> {
    let mut known = Vec::new();
    for (call, answer) in answers {
        let call = u32::try_from(call).map_err(|_| io::ErrorKind::InvalidInput)?;
        known.push((call, answer));
    }
    known.sort_unstable();
    // From which number on which answer counts.
    let mut steps = vec![(0, otherwise)];
    for (call, answer) in known {
        while steps.pop_if(|(from, _)| *from >= call).is_some() {}
        steps.extend([(call, answer), (call + 1, otherwise)]);
    }
    steps.dedup_by_key(|(_, answer)| *answer);
    let mut program = vec![op(LOAD, 0, 0, NUMBER)];
    program.extend(search(&steps)?);
    Ok(program)
}

fn search(steps: &[(u32, u32)]) -> io::Result<Vec<sock_filter>> {
    if let [(_, answer)] = steps {
        return Ok(vec![op(ANSWER, 0, 0, *answer)]);
    }
    let (below, above) = steps.split_at(steps.len() / 2);
    let from = above.first().map_or(0, |(from, _)| *from);
    let (below, above) = (search(below)?, search(above)?);
    let mut program = match u8::try_from(below.len()) {
        Ok(over) => vec![op(IF_AT_LEAST, over, 0, from)],
        Err(_) => vec![op(IF_AT_LEAST, 0, 1, from), op(JUMP, 0, 0, long(&below)?)],
    };
    program.extend(below);
    program.extend(above);
    Ok(program)
}

/// The same program, but what it allows is left to what follows it.
///
/// # Errors
/// `InvalidInput` for one that is longer than any may be.
pub(super) fn passed_on(mut program: Vec<sock_filter>) -> io::Result<Vec<sock_filter>> {
    let mut rest = long(&program)?;
    for one in &mut program {
        rest -= 1;
        if one.code == ANSWER && one.k == ALLOW {
            *one = op(JUMP, 0, 0, rest);
        }
    }
    Ok(program)
}

fn long(program: &[sock_filter]) -> io::Result<u32> {
    u32::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn op(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}
