//! The escape corpus: each case attacks one thing from inside a real sandbox. It must be denied with the named
//! errno or signal, by each of its defences alone, and succeed when all of them are taken away.
//!
//! The last is the positive control: an attack that could not work would prove nothing. [`debugger`] says
//! how a defence is taken away. docs/security.md holds the table of all cases, made from here.

#[macro_use]
mod case;
mod debugger;
mod defence;
mod files;
mod gvisor;
mod kernel;
mod network;
mod processes;
mod stage;
mod table;

/// What a process says that waits for the debugger.
const READY: &str = "corpus-ready";
/// Before what an attack has printed.
const RESULT: &str = "corpus-result ";

/// All cases, by subject.
const SUBJECTS: &[(&str, &[case::Case])] = &[
    ("Files and devices", files::CASES),
    ("Processes, limits and names", processes::CASES),
    ("Networks", network::CASES),
    ("The kernel's calls", kernel::CASES),
];
