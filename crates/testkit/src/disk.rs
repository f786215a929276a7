//! A disk whose power can be cut: ext4 on a loop device, mounted in a mount namespace of its own, so that no
//! other process holds it and everything is unmounted and detached when the holder ends, however that happens.
//!
//! The cut is `EXT4_IOC_SHUTDOWN` without flushing the journal: what was not synced is gone, as it is when
//! the power goes. (The host's own cache keeps what was synced, as a disk with a working flush does.)

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use tempfile::TempDir;

/// `EXT4_IOC_SHUTDOWN` is `_IOR('X', 125, __u32)`; 2 is `EXT4_GOING_FLAGS_NOLOGFLUSH` (fs/ext4/ext4.h).
const CUT: &str = "import fcntl,os,struct,sys
fd = os.open(sys.argv[1], os.O_RDONLY)
print('armed', flush=True)
sys.stdin.readline()
fcntl.ioctl(fd, 0x8004587d, struct.pack('I', 2))
print('cut', flush=True)";

/// Bytes of the image; sparse.
const SIZE: u64 = 1 << 30;

/// A mounted disk.
#[derive(Debug)]
pub struct Disk {
    holder: Child,
    home: TempDir,
}

/// Something that stands ready to cut the power.
#[derive(Debug)]
pub struct Fuse(Child);

impl Disk {
    /// Makes and mounts one.
    ///
    /// # Errors
    /// What this machine lacks: root, loop devices, `mkfs.ext4`, `unshare`, `nsenter`.
    pub fn new() -> io::Result<Self> {
        let home = tempfile::Builder::new()
            .prefix("longhand-disk-")
            .tempdir()?;
        let image = home.path().join("image");
        std::fs::File::create(&image)?.set_len(SIZE)?;
        std::fs::create_dir(home.path().join("disk"))?;
        done(
            "mkfs.ext4 (package e2fsprogs)",
            Command::new("mkfs.ext4").arg("-q").arg(&image),
        )?;
        let mut holder = Command::new("unshare");
        holder.args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            "echo held; read line",
        ]);
        let mut holder = holder
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        said(
            &mut holder,
            "unshare --mount (a mount namespace needs root)",
            "held",
        )?;
        let disk = Self { holder, home };
        disk.mount()?;
        Ok(disk)
    }

    /// The words that run a command where the disk is mounted; the process stays the same.
    #[must_use]
    pub fn inside(&self) -> Vec<OsString> {
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.holder.id());
        vec!["nsenter".into(), namespace.into(), "--".into()]
    }

    /// The mount point, as seen from inside.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.home.path().join("disk")
    }

    /// The same as seen from outside.
    #[must_use]
    pub fn outside(&self) -> PathBuf {
        let path = self.path();
        let relative = path.strip_prefix("/").unwrap_or(&path);
        Path::new("/proc")
            .join(self.holder.id().to_string())
            .join("root")
            .join(relative)
    }

    /// Writes everything there is to the disk, so that a cut later takes only what came after.
    ///
    /// # Errors
    /// The disk fails.
    pub fn flush(&self) -> io::Result<()> {
        done("sync", self.command("sync").arg("-f").arg(self.path())).map(drop)
    }

    /// Makes ready to cut.
    ///
    /// # Errors
    /// `python3` is missing.
    pub fn fuse(&self) -> io::Result<Fuse> {
        let mut command = self.command("python3");
        command.args(["-c", CUT]).arg(self.path());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        said(&mut child, "python3 (it makes the ioctl)", "armed")?;
        Ok(Fuse(child))
    }

    /// Brings the disk back after a cut: unmounts and mounts it, which replays its journal. Nobody may have a
    /// file open on it.
    ///
    /// # Errors
    /// It is in use, or does not mount.
    pub fn restore(&self) -> io::Result<()> {
        done("umount", self.command("umount").arg(self.path()))?;
        self.mount()
    }

    fn mount(&self) -> io::Result<()> {
        // Detached by itself when unmounted: `mount` sets the device's autoclear flag.
        let mut command = self.command("mount");
        command
            .args(["-t", "ext4", "-o", "loop"])
            .arg(self.home.path().join("image"))
            .arg(self.path());
        done(
            "mount -o loop (loop devices need root and /dev/loop-control)",
            &mut command,
        )
        .map(drop)
    }

    fn command(&self, program: &str) -> Command {
        let words = self.inside();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(program);
        command
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The last process of the namespace takes its mounts along, and the mount its loop device.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Fuse {
    /// Cuts the power; when this returns, it is cut. Gives the moment before it began to: what anyone was
    /// told until then must survive. While the kernel shuts down, an `fdatasync` may still succeed without
    /// effect (a journal that is aborted lets waiters go that come late), which no disk without power does.
    ///
    /// # Errors
    /// The file system refused.
    pub fn cut(mut self) -> io::Result<Instant> {
        let before = Instant::now();
        if let Some(stdin) = self.0.stdin.as_mut() {
            stdin.write_all(b"\n")?;
        }
        said(&mut self.0, "EXT4_IOC_SHUTDOWN", "cut")?;
        // It holds the mount point open until it is gone.
        self.0.wait()?;
        Ok(before)
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `child` has printed `word`.
fn said(child: &mut Child, what: &str, word: &str) -> io::Result<()> {
    let mut line = String::new();
    if let Some(stdout) = child.stdout.as_mut() {
        // One line a word, and nothing is printed before it is asked for: nothing is lost in the buffer.
        BufReader::new(stdout).read_line(&mut line)?;
    }
    if line.trim() == word {
        Ok(())
    } else {
        Err(io::Error::other(format!("{what} did not work")))
    }
}

fn done(what: &str, command: &mut Command) -> io::Result<Output> {
    let output = command
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("{what}: {error}")))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "{what}: {}: {}",
        output.status,
        said.trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_loses_what_was_not_synced_and_nothing_else() {
        let disk =
            Disk::new().expect("this test needs root, loop devices, e2fsprogs and util-linux");
        let fuse = disk.fuse().expect("python3");
        let mut kept = std::fs::File::create(disk.outside().join("kept")).expect("create");
        kept.write_all(b"kept").expect("write");
        kept.sync_all().expect("sync");
        std::fs::write(disk.outside().join("lost"), b"lost").expect("write");
        drop(kept);
        fuse.cut().expect("cut");
        disk.restore().expect("restore");
        assert_eq!(
            std::fs::read(disk.outside().join("kept")).expect("kept"),
            b"kept"
        );
        assert!(!disk.outside().join("lost").exists(), "the cut did not cut");
    }
}
