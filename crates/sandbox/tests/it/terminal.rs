//! The terminal that the server was started from is none of the sandbox's.

use std::process::{Command, Stdio};

use crate::support::{host, python};

/// Runs its arguments in a new session with a terminal of its own.
const IN_A_TERMINAL: &str =
    "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

#[test]
fn the_servers_terminal_cannot_be_reached() {
    let output = Command::new("python3")
        .args(["-c", IN_A_TERMINAL])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "terminal::held_in_a_terminal", "--ignored"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

#[tokio::test]
#[ignore = "needs a controlling terminal: the test above runs it in one"]
async fn held_in_a_terminal() {
    std::fs::File::open("/dev/tty").unwrap();
    let host = host();
    let sandbox = host.attach("terminal").await;
    let program = "print(tried(lambda: os.open('/dev/tty', os.O_RDWR)))\n\
        for pid in ['1', 'self']: print(open('/proc/%s/stat' % pid).read().rsplit(')')[1].split()[3:5])\n";
    assert_eq!(
        python(&sandbox, program).await,
        "ENXIO\n['1', '0']\n['1', '0']"
    );
}
