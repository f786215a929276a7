//! Owns how the bytes between a sandbox and its disk are limited: which device, and what is written where. It writes
//! nothing.
//!
//! Version 1 of cgroups counts what a process waits for itself: reads, and writes that go around the kernel's cache.
//! What that writes later it holds against nobody; version 2 does, on the common file systems. Source: the kernel's
//! Documentation/admin-guide/cgroup-v1/blkio-controller.rst and cgroup-v2.rst, "IO Interface Files", "Writeback".

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jail::groups::{Setting, Version};
use rustix::fs::{major, minor};

use super::setting;

/// So many bytes a second, each way, of one device.
pub(super) struct Traffic {
    /// `MAJOR:MINOR` of a whole disk: the kernel limits no part of one.
    device: String,
    bytes: u64,
}

impl Traffic {
    /// Of the disk that `dir` lies on.
    ///
    /// # Errors
    /// `Unsupported` where that is no disk of this host: a file system in memory, of a network, or of several disks.
    pub(super) fn of(dir: &Path, bytes: u64) -> io::Result<Self> {
        let number = fs::metadata(dir)?.dev();
        let device = format!("{}:{}", major(number), minor(number));
        let place = PathBuf::from("/sys/dev/block").join(&device);
        let place = fs::canonicalize(place).map_err(|_| {
            let problem = format!("{} is on no disk of this host", dir.display());
            io::Error::new(io::ErrorKind::Unsupported, problem)
        })?;
        let device = match (place.join("partition").exists(), place.parent()) {
            (true, Some(disk)) => fs::read_to_string(disk.join("dev"))?.trim().to_owned(),
            _ => device,
        };
        Ok(Self { device, bytes })
    }

    pub(super) fn settings(&self, version: Version) -> Vec<Setting> {
        let Self { device, bytes } = self;
        let must = |file: &str, value| setting(file, value, false);
        match version {
            Version::V1 => ["read", "write"]
                .map(|way| {
                    must(
                        &format!("blkio.throttle.{way}_bps_device"),
                        format!("{device} {bytes}"),
                    )
                })
                .into(),
            Version::V2 => vec![must(
                "io.max",
                format!("{device} rbps={bytes} wbps={bytes}"),
            )],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_are_limited_on_a_whole_disk_and_what_is_none_is_named() {
        let traffic = Traffic {
            device: "254:0".to_owned(),
            bytes: 7,
        };
        let written = |version| {
            let settings = traffic.settings(version).into_iter();
            settings
                .map(|one| format!("{} {}", one.file, one.value))
                .collect::<Vec<_>>()
        };
        assert_eq!(written(Version::V2), ["io.max 254:0 rbps=7 wbps=7"]);
        assert_eq!(
            written(Version::V1),
            [
                "blkio.throttle.read_bps_device 254:0 7",
                "blkio.throttle.write_bps_device 254:0 7"
            ]
        );
        let error = Traffic::of(Path::new("/proc"), 7).err().unwrap();
        assert_eq!(error.to_string(), "/proc is on no disk of this host");
    }
}
