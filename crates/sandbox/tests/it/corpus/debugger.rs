//! Takes defences away from the sandboxes of another process: a debugger that leaves calls of the set-up
//! undone. The helper is the one that is shipped, unchanged; nothing of this is in it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, read_dir, read_link, read_to_string};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::defence::Defence;

/// What a traced process is on the way to a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The process that attaches the sandbox.
    Server,
    /// The static helper, from its start to the exec of the hand.
    Helper,
    /// PID 1 of the sandbox.
    Hand,
    /// What the hand starts.
    Inside,
}

/// A system call that is about to be made.
pub struct Call {
    number: i64,
    pub args: [u64; 6],
    memory: Memory,
}

/// What is made of it.
pub enum Change {
    /// It is not made, and answers 0.
    Undone,
    /// Another argument, by its place.
    Argument(usize, u64),
    /// Another word in the caller's memory.
    Word(u64, u64),
    /// Another path: `/dev/null`, at this place.
    Elsewhere(u64),
}

impl Call {
    pub fn is(&self, number: i64) -> bool {
        self.number == number
    }

    pub fn prctl(&self, option: i32) -> bool {
        self.is(libc::SYS_prctl) && self.args[0] == u64::from(option.cast_unsigned())
    }

    /// Eight bytes of the caller's memory.
    pub fn word(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        let read = self.memory.0.read_exact_at(&mut bytes, at);
        read.map(|()| u64::from_ne_bytes(bytes)).unwrap_or_default()
    }

    fn text(&self, at: u64) -> String {
        let mut bytes = [0; 256];
        let read = self.memory.0.read_at(&mut bytes, at).unwrap_or_default();
        let text = bytes[..read].split(|byte| *byte == 0).next();
        String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
    }

    /// A write to this file goes nowhere.
    pub fn elsewhere(&self, path: &str) -> Option<Change> {
        self.elsewhere_if(|asked| asked == path)
    }

    pub fn elsewhere_if(&self, wanted: impl Fn(&str) -> bool) -> Option<Change> {
        let (path, flags) = match self.number {
            libc::SYS_open => (self.args[0], self.args[1]),
            libc::SYS_openat => (self.args[1], self.args[2]),
            _ => return None,
        };
        let writes = flags & 3 != 0;
        (writes && wanted(&self.text(path))).then_some(Change::Elsewhere(path))
    }

    /// Whether it attaches a tree at one of these places.
    pub fn mounted_at(&self, places: &[&str]) -> bool {
        self.is(libc::SYS_move_mount) && places.contains(&self.text(self.args[3]).as_str())
    }
}

struct Memory(File);

/// Runs `program` until it ends, with `line` on its standard input, and gives what it prints; the sandboxes
/// it attaches lack `removed`. Blocks. What is left of them is killed.
pub fn run(program: Command, line: String, removed: Vec<Defence>) -> String {
    // The kernel has one debugger a thread, and kills what is traced when that thread ends.
    std::thread::spawn(move || Debugger::start(program, &line, removed).follow())
        .join()
        .unwrap()
}

struct Debugger {
    child: Child,
    printed: std::thread::JoinHandle<String>,
    removed: Vec<Defence>,
    /// By process.
    roles: HashMap<i32, Role>,
    /// Threads whose call was left undone.
    undone: Vec<Pid>,
}

impl Debugger {
    /// The program waits for its line before it does anything.
    fn start(mut program: Command, line: &str, removed: Vec<Defence>) -> Self {
        program.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = program.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        while !said.contains(super::READY) {
            said.clear();
            assert!(
                stdout.read_line(&mut said).unwrap() > 0,
                "it does not start"
            );
        }
        let pid = child.id().cast_signed();
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        for task in read_dir(format!("/proc/{pid}/task")).unwrap() {
            let task = task.unwrap().file_name().into_string().unwrap();
            ptrace::seize(Pid::from_raw(task.parse().unwrap()), options).unwrap();
        }
        let printed = std::thread::spawn(move || {
            let lines = stdout.lines().map_while(Result::ok);
            let mut lines = lines.filter(|line| line.contains(super::RESULT));
            lines.next().unwrap_or_default()
        });
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(line.as_bytes()).unwrap();
        drop(stdin);
        Self {
            child,
            printed,
            removed,
            roles: HashMap::from([(pid, Role::Server)]),
            undone: Vec::new(),
        }
    }

    fn follow(mut self) -> String {
        let own = Pid::from_raw(self.child.id().cast_signed());
        // Of this thread alone: other tests have children too.
        let which = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            match waitpid(None, Some(which)) {
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) if pid == own => {
                    return self.printed.join().unwrap();
                }
                Ok(WaitStatus::PtraceSyscall(pid)) => self.at_call(pid),
                Ok(WaitStatus::PtraceEvent(pid, _, event)) => {
                    self.at_event(pid, event);
                    self.go_on(pid, None);
                }
                Ok(WaitStatus::Stopped(pid, signal)) => self.go_on(pid, Some(signal)),
                Ok(_) | Err(Errno::EINTR | Errno::EINVAL) => {}
                Err(error) => panic!("the debugger lost its process: {error}"),
            }
        }
    }

    /// A process that has ended meanwhile is no error: the wait tells it.
    fn go_on(&mut self, pid: Pid, signal: Option<Signal>) {
        let looks = match self.role(pid) {
            Role::Helper => true,
            Role::Hand => self.removed.iter().any(|d| d.is_of_the_hand()),
            Role::Server | Role::Inside => false,
        };
        let _ = if looks {
            ptrace::syscall(pid, signal)
        } else {
            ptrace::cont(pid, signal)
        };
    }

    fn at_event(&mut self, pid: Pid, event: i32) {
        if event != libc::PTRACE_EVENT_EXEC {
            return;
        }
        let program = read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let ours = program.to_string_lossy().starts_with("/memfd:hand");
        let next = match self.role(pid) {
            Role::Server if ours => Role::Helper,
            Role::Helper if ours => Role::Hand,
            Role::Server => Role::Server,
            _ => Role::Inside,
        };
        self.roles.insert(pid.as_raw(), next);
    }

    /// Of the process that a thread belongs to; a new one is what its parent is.
    fn role(&mut self, thread: Pid) -> Role {
        let status = read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
        let field = |name: &str| -> Option<i32> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line?.trim().parse().ok()
        };
        let process = field("Tgid:").unwrap_or(thread.as_raw());
        if let Some(role) = self.roles.get(&process) {
            return *role;
        }
        let parent = field("PPid:").and_then(|parent| self.roles.get(&parent));
        let role = match parent {
            Some(Role::Hand | Role::Inside) => Role::Inside,
            Some(role) => *role,
            None => Role::Inside,
        };
        self.roles.insert(process, role);
        role
    }

    fn at_call(&mut self, pid: Pid) {
        let entered = ptrace::syscall_info(pid).is_ok_and(|info| info.op == ENTRY);
        if entered {
            self.entered(pid);
        } else if self.is_opened(pid) {
            // Who is traced already can be traced by nobody else, and that is what is tried next.
            let _ = ptrace::detach(pid, None);
            return;
        } else if let Some(at) = self.undone.iter().position(|other| *other == pid) {
            self.undone.swap_remove(at);
            if let Ok(mut registers) = ptrace::getregs(pid) {
                registers.rax = 0;
                let _ = ptrace::setregs(pid, registers);
            }
        }
        self.go_on(pid, None);
    }

    /// Whether this is the hand after it did not close itself, and nothing else is to be seen of it.
    fn is_opened(&mut self, pid: Pid) -> bool {
        let last = self.removed.contains(&Defence::HandClosed)
            && !self.removed.contains(&Defence::FileTools);
        let called = ptrace::getregs(pid).map(|registers| registers.orig_rax.cast_signed());
        last && self.role(pid) == Role::Hand && called == Ok(libc::SYS_prctl)
    }

    fn entered(&mut self, pid: Pid) {
        let Ok(mut registers) = ptrace::getregs(pid) else {
            return;
        };
        let memory = OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("/proc/{pid}/mem"));
        let Ok(memory) = memory else { return };
        let mut call = Call {
            number: registers.orig_rax.cast_signed(),
            args: [
                registers.rdi,
                registers.rsi,
                registers.rdx,
                registers.r10,
                registers.r8,
                registers.r9,
            ],
            memory: Memory(memory),
        };
        let role = self.role(pid);
        for defence in self.removed.clone() {
            match defence.change(role, &call) {
                None => continue,
                Some(Change::Undone) => {
                    registers.orig_rax = u64::MAX;
                    self.undone.push(pid);
                }
                Some(Change::Argument(at, value)) => call.args[at] = value,
                Some(Change::Word(at, value)) => {
                    let bytes = value.to_ne_bytes();
                    call.memory.0.write_all_at(&bytes, at).unwrap();
                }
                Some(Change::Elsewhere(at)) => {
                    call.memory.0.write_all_at(b"/dev/null\0", at).unwrap();
                }
            }
        }
        [
            registers.rdi,
            registers.rsi,
            registers.rdx,
            registers.r10,
            registers.r8,
            registers.r9,
        ] = call.args;
        let _ = ptrace::setregs(pid, registers);
    }
}

/// `PTRACE_SYSCALL_INFO_ENTRY` of linux/ptrace.h.
const ENTRY: u8 = 1;
