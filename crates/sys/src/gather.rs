//! A file system for SQLite that hands what is written to a write-ahead log to the kernel in one piece, when it is synced.
//!
//! SQLite writes each page of a commit with two calls. Nobody reads them before the commit is synced: the writer reads its
//! own through the same file, and others only what the log's index names, which is written after the sync. So this is for
//! connections that sync each commit (`synchronous = FULL`), and only for those. Every other file is the default's.

use std::ffi::{CStr, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use libsqlite3_sys as ffi;

/// Its name.
pub const GATHERING: &CStr = c"gathering";

/// Bytes after which what was written goes to the kernel ahead of the sync.
const MOST: usize = 1 << 20;

/// Bytes of one call: the default's file takes no more than 128 KiB at once, and counts what is beyond as nothing.
const PIECE: usize = 124 << 10;

/// Makes [`GATHERING`] known to SQLite; once for the process.
///
/// # Errors
/// SQLite has no file system of its own, or refuses another: its code.
pub fn gathering() -> Result<(), i32> {
    static DONE: OnceLock<Result<(), i32>> = OnceLock::new();
    *DONE.get_or_init(|| {
        // SAFETY: asks for the default file system; SQLite initialises itself first.
        let usual = NonNull::new(unsafe { ffi::sqlite3_vfs_find(ptr::null()) });
        let usual = usual.ok_or(ffi::SQLITE_ERROR)?;
        // SAFETY: SQLite's file systems are never freed, and nobody changes this one.
        let of = unsafe { usual.as_ref() };
        let size = c_int::try_from(size_of::<Log>()).map_err(|_| ffi::SQLITE_ERROR)?;
        let own = ffi::sqlite3_vfs {
            szOsFile: of.szOsFile.max(size),
            pNext: ptr::null_mut(),
            zName: GATHERING.as_ptr(),
            pAppData: usual.as_ptr().cast(),
            xOpen: Some(open),
            // The rest takes no notice of which file system it is called for.
            ..*of
        };
        // SAFETY: what is registered is never freed; its functions are the default's but for `open`, which gives each
        // file either to the default's or to the functions below.
        match unsafe { ffi::sqlite3_vfs_register(Box::into_raw(Box::new(own)), 0) } {
            ffi::SQLITE_OK => Ok(()),
            code => Err(code),
        }
    })
}

/// The log as SQLite sees it.
#[repr(C)]
struct Log {
    base: ffi::sqlite3_file,
    /// From a box, until the file is closed.
    written: *mut Written,
}

/// What was written to it and is not the kernel's yet.
struct Written {
    /// The default's file, in room of the size and alignment that it wants.
    file: Vec<u64>,
    at: ffi::sqlite3_int64,
    bytes: Vec<u8>,
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(is_reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

impl Written {
    fn file(&mut self) -> *mut ffi::sqlite3_file {
        self.file.as_mut_ptr().cast()
    }

    /// The functions of the default's file.
    fn methods(&mut self) -> &'static ffi::sqlite3_io_methods {
        // SAFETY: the default has opened it, and so has set its functions, which live as long as the process.
        unsafe { &*(*self.file()).pMethods }
    }

    /// Hands over what was written. If that fails it is lost, as a write that fails is: the commit fails.
    fn flush(&mut self) -> c_int {
        if self.bytes.is_empty() {
            return ffi::SQLITE_OK;
        }
        let Some(write) = self.methods().xWrite else {
            return ffi::SQLITE_IOERR_WRITE;
        };
        let mut bytes = std::mem::take(&mut self.bytes);
        let mut done = ffi::SQLITE_OK;
        for piece in bytes.chunks(PIECE) {
            // SAFETY: the file is open, and as many bytes stand there.
            done = unsafe {
                let amount = piece.len() as c_int;
                write(self.file(), piece.as_ptr().cast(), amount, self.at)
            };
            if done != ffi::SQLITE_OK {
                break;
            }
            self.at += PIECE as ffi::sqlite3_int64;
        }
        bytes.clear();
        self.bytes = bytes;
        done
    }
}

/// What stands behind a file that [`open`] gave to [`METHODS`].
///
/// # Safety
/// `file` is such a file and not closed; SQLite calls no two functions of one file at once, and each of ours calls this once.
unsafe fn of<'f>(file: *mut ffi::sqlite3_file) -> &'f mut Written {
    // SAFETY: as the caller says; `written` came from a box and is freed by `close` only.
    unsafe { &mut *(*file.cast::<Log>()).written }
}

/// # Safety
/// Called by SQLite, with room of `szOsFile` bytes at `file`.
unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: it is the one that was registered, with the default behind it.
    let usual = unsafe { (*vfs).pAppData.cast::<ffi::sqlite3_vfs>() };
    // SAFETY: file systems are never freed.
    let (Some(open), Ok(length)) = (unsafe { (*usual).xOpen }, unsafe {
        usize::try_from((*usual).szOsFile)
    }) else {
        return ffi::SQLITE_CANTOPEN;
    };
    if flags & ffi::SQLITE_OPEN_WAL == 0 {
        // SAFETY: passed on as it came; the room is at least what the default wants.
        return unsafe { open(usual, name, file, flags, out) };
    }
    let mut written = Box::new(Written {
        file: vec![0; length.div_ceil(size_of::<u64>())],
        at: 0,
        bytes: Vec::new(),
    });
    // SAFETY: as above; the room is the box's, which outlives the file.
    let done = unsafe { open(usual, name, written.file(), flags, out) };
    let mut methods: *const ffi::sqlite3_io_methods = &raw const METHODS;
    if done != ffi::SQLITE_OK {
        // SAFETY: the default says by its functions whether there is something to close.
        unsafe {
            if let Some(close) = (*written.file()).pMethods.as_ref().and_then(|m| m.xClose) {
                close(written.file());
            }
        }
        // Nothing is to be closed here.
        methods = ptr::null();
    }
    let log = Log {
        base: ffi::sqlite3_file { pMethods: methods },
        written: if done == ffi::SQLITE_OK {
            Box::into_raw(written)
        } else {
            ptr::null_mut()
        },
    };
    // SAFETY: SQLite's room is at least as large, and aligned for any of its files.
    unsafe { file.cast::<Log>().write(log) };
    done
}

/// # Safety
/// As [`of`]; the file is not used again.
unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: as the caller says: the box comes back, once.
    let mut written = unsafe { Box::from_raw((*file.cast::<Log>()).written) };
    // Nothing that was committed waits here.
    let flushed = written.flush();
    let closed = match written.methods().xClose {
        // SAFETY: the file is open.
        Some(close) => unsafe { close(written.file()) },
        None => ffi::SQLITE_OK,
    };
    if flushed == ffi::SQLITE_OK {
        closed
    } else {
        flushed
    }
}

/// # Safety
/// As [`of`]; `amount` bytes stand at `from`.
unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    amount: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: as the caller says.
    let written = unsafe { of(file) };
    let Ok(length) = usize::try_from(amount) else {
        return ffi::SQLITE_IOERR_WRITE;
    };
    let end = i64::try_from(written.bytes.len()).map_or(i64::MAX, |held| written.at + held);
    if end != at || written.bytes.len() + length > MOST {
        let flushed = written.flush();
        if flushed != ffi::SQLITE_OK {
            return flushed;
        }
        written.at = at;
    }
    // SAFETY: as the caller says.
    let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), length) };
    written.bytes.extend_from_slice(bytes);
    ffi::SQLITE_OK
}

/// Functions that go to the default's file once it has all that was written.
macro_rules! passed_on {
    ($($name:ident, $method:ident, $missing:ident ($($value:ident: $kind:ty),*);)*) => {$(
        /// # Safety
        /// As [`of`]; the rest as the default's function wants it.
        unsafe extern "C" fn $name(file: *mut ffi::sqlite3_file $(, $value: $kind)*) -> c_int {
            // SAFETY: as the caller says.
            let written = unsafe { of(file) };
            let flushed = written.flush();
            if flushed != ffi::SQLITE_OK {
                return flushed;
            }
            match written.methods().$method {
                // SAFETY: the file is open; what it is given is passed on as it came.
                Some(method) => unsafe { method(written.file() $(, $value)*) },
                None => ffi::$missing,
            }
        }
    )*};
}

passed_on! {
    read, xRead, SQLITE_IOERR_READ (to: *mut c_void, amount: c_int, at: ffi::sqlite3_int64);
    truncate, xTruncate, SQLITE_IOERR_TRUNCATE (length: ffi::sqlite3_int64);
    sync, xSync, SQLITE_IOERR_FSYNC (flags: c_int);
    size, xFileSize, SQLITE_IOERR_FSTAT (length: *mut ffi::sqlite3_int64);
    lock, xLock, SQLITE_IOERR_LOCK (how: c_int);
    unlock, xUnlock, SQLITE_IOERR_UNLOCK (how: c_int);
    is_reserved, xCheckReservedLock, SQLITE_IOERR_CHECKRESERVEDLOCK (found: *mut c_int);
    control, xFileControl, SQLITE_NOTFOUND (what: c_int, value: *mut c_void);
}

/// # Safety
/// As [`of`].
unsafe extern "C" fn sector(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: as the caller says.
    let written = unsafe { of(file) };
    // SAFETY: the file is open.
    let asked = written
        .methods()
        .xSectorSize
        .map(|asked| unsafe { asked(written.file()) });
    asked.unwrap_or(4_096)
}

/// # Safety
/// As [`of`].
unsafe extern "C" fn characteristics(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: as the caller says.
    let written = unsafe { of(file) };
    // SAFETY: the file is open.
    let asked = written
        .methods()
        .xDeviceCharacteristics
        .map(|asked| unsafe { asked(written.file()) });
    asked.unwrap_or(0)
}
