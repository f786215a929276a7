//! A clock of the day that is wrong, for one process: a library that its dynamic linker loads before the C library. It
//! changes no other clock, so waiting takes as long as ever. Programs that are linked statically do not notice.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the linker puts before the C library's own function.
const SOURCE: &str = r#"
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    int done = syscall(SYS_clock_gettime, clock, now);
    const char *by = getenv("TESTKIT_CLOCK_SECONDS");
    if (done == 0 && clock == CLOCK_REALTIME && by) now->tv_sec += atol(by);
    return done;
}
"#;

/// The library, built in a directory of the test's.
#[derive(Debug)]
pub struct Skew(PathBuf);

impl Skew {
    /// Builds it with the C compiler that the workspace needs anyway.
    ///
    /// # Errors
    /// There is no `cc`, or the directory takes no files.
    pub fn new(home: &Path) -> io::Result<Self> {
        let (source, library) = (home.join("skew.c"), home.join("skew.so"));
        std::fs::write(&source, SOURCE)?;
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .output()?;
        if built.status.success() {
            return Ok(Self(library));
        }
        Err(io::Error::other(
            String::from_utf8_lossy(&built.stderr).into_owned(),
        ))
    }

    /// The environment of a process whose clock is `seconds` before everybody else's; behind, if less than 0.
    #[must_use]
    pub fn environment(&self, seconds: i64) -> [(&'static str, String); 2] {
        [
            ("LD_PRELOAD", self.0.display().to_string()),
            ("TESTKIT_CLOCK_SECONDS", seconds.to_string()),
        ]
    }
}
