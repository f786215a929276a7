//! Owns attaching a file as a disk of its own (a loop device). It mounts nothing.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Source: linux/loop.h.
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
/// Source: linux/loop.h (Linux 5.8).
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
/// The device lets its file go when nobody has it open or mounted any more: whoever is killed leaves none
/// behind.
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// Bytes of a block, as the file systems of today have them.
const BLOCK: u32 = 4096;
/// How often to try again when another process was faster to take the device that was free.
const TRIES: u32 = 64;

/// `struct loop_info64` of linux/loop.h: only integers and bytes, no gaps.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

// What the kernel's header comes to on every architecture.
const _: () = assert!(size_of::<LoopInfo>() == 232 && size_of::<LoopConfig>() == 304);

/// Attaches `image`, a file that is open for reading and writing, to a free loop device. Gives the device,
/// open, and its path. Once nobody has it open or mounted it lets go of the file.
///
/// # Errors
/// `EACCES` or `EPERM` without the right, `ENOENT` where there are no loop devices, `EBUSY` when others were
/// faster each time, `EINVAL` before kernel 5.8.
pub fn attach_disk(image: BorrowedFd<'_>) -> io::Result<(File, String)> {
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")?;
    for _ in 0..TRIES {
        // SAFETY: this request takes no argument and touches no memory of ours; the descriptor is open for
        // the whole call. It answers with a number or -1.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let path = format!("/dev/loop{number}");
        let device = OpenOptions::new().read(true).write(true).open(&path)?;
        match configure(&device, image) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            other => return other.map(|()| (device, path)),
        }
    }
    Err(io::Error::from_raw_os_error(libc::EBUSY))
}

fn configure(device: &File, image: BorrowedFd<'_>) -> io::Result<()> {
    let config = LoopConfig {
        fd: image.as_raw_fd().cast_unsigned(),
        block_size: BLOCK,
        info: LoopInfo {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_AUTOCLEAR,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: the request reads one struct loop_config, whose layout and size are asserted above, and writes
    // nothing; `config` lives through the call and has no padding that was left unset (its fields follow
    // each other without gaps). Both descriptors are borrowed and open; the kernel takes its own reference
    // to the file behind `image`.
    let answer = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) };
    if answer == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_device_has_the_size_of_its_file_and_lets_go_of_it_when_it_is_closed() {
        let path = std::env::temp_dir().join(format!("longhand-disk-{}", std::process::id()));
        let image = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        image.set_len(1 << 20).unwrap();
        let attached = attach_disk(image.as_fd());
        std::fs::remove_file(&path).unwrap();
        let (device, name) = match attached {
            Ok(attached) => attached,
            // Without the right, or where there are no such devices, there is nothing to look at.
            Err(error) => {
                let errno = error.raw_os_error().unwrap();
                assert!(
                    [libc::EACCES, libc::EPERM, libc::ENOENT].contains(&errno),
                    "{error}"
                );
                return;
            }
        };
        let number = name.strip_prefix("/dev/").unwrap();
        let size = std::fs::read_to_string(format!("/sys/block/{number}/size")).unwrap();
        // Source: sectors of 512 bytes, whatever the block.
        assert_eq!(size.trim(), "2048");
        let backing = format!("/sys/block/{number}/loop/backing_file");
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_ours = || std::fs::read_to_string(&backing).is_ok_and(|file| file.contains(name));
        assert!(is_ours());
        drop(device);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while is_ours() {
            assert!(std::time::Instant::now() < deadline, "it stays attached");
            std::thread::yield_now();
        }
    }
}
