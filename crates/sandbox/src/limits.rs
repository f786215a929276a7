//! Owns every limit of this crate, with unit and reason. It contains no code.

use std::time::Duration;

/// Characters of a sandbox's name: it is a directory name and part of log lines.
pub const ID_CHARS: usize = 64;
/// Frames waiting to be written to one hand; beyond it callers wait.
pub const QUEUED_FRAMES: usize = 64;
/// How long the set-up may take until the hand answers. Measured: a few milliseconds.
pub const START: Duration = Duration::from_secs(20);
/// Sandboxes that are being started at once, for each processor; the others wait in line. More at once would only
/// take turns at what the kernel does one at a time, and the last would wait longer.
pub const STARTS_PER_CPU: usize = 4;
/// How long after a start the supervisor of the next one is born: a first command is under way by then.
pub const AHEAD_AFTER: Duration = Duration::from_millis(5);
/// How often cgroups are looked for that belong to a supervisor which was killed, while something still dies in them.
pub const STRAYS_TRIES: u32 = 40;
/// And how long to wait in between.
pub const STRAYS_AGAIN: Duration = Duration::from_millis(50);
/// How long a stop may take until the last process is gone. Measured: a few milliseconds.
pub const STOP: Duration = Duration::from_secs(20);
/// How long attach and delete wait for a former owner's sandbox to finish dying.
pub const HANDOVER: Duration = Duration::from_secs(10);
/// How long a hand may leave a ping unanswered before it counts as lost.
pub const PING: Duration = Duration::from_secs(15);
/// How often a hand that runs a call is asked whether it lives.
pub const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long a cancelled call may take to say how it ended.
pub const CANCEL: Duration = Duration::from_secs(5);
/// What a tool call may take beyond its own limit until the hand has answered; then the sandbox is
/// stopped. The hand kills what ran too long within seconds.
pub const TOOL_GRACE: Duration = Duration::from_secs(30);
/// How long a hand may take to start a process or to say why not.
pub const SPAWN: Duration = Duration::from_secs(30);
/// How long a changed policy waits for programs to be told whom to trust; it is in force then all the same.
pub const TRUST: Duration = Duration::from_secs(2);
/// Bytes of a network's certificate that is looked for in a sandbox.
pub const CERTIFICATE_BYTES: u64 = 64 << 10;
/// Bytes of the bundle of a sandbox to which a certificate is added; the template's stands for a longer one.
pub const BUNDLE_BYTES: u64 = 8 << 20;
/// How long a hand may take to answer a question about files: it may have to remove a million of them.
pub const ASK: Duration = Duration::from_secs(120);
/// How long all processes of a sandbox may take to stand still. Measured: below a millisecond.
pub const FREEZE: Duration = Duration::from_secs(5);
/// How often who waits for a sandbox's place looks whether one that runs has become idle.
pub const QUEUE_LOOK: Duration = Duration::from_millis(500);
/// Sandboxes that are made ready at once ahead of their use.
pub const PREPARED_AT_ONCE: usize = 4;
/// Those that are or wait for it; one more is left to its first use.
pub const PREPARED_QUEUE: usize = 256;
/// Sandboxes that may fail to be made for nobody before it is left alone until one is asked for.
pub const POOL_TRIES: usize = 3;
/// Sandboxes that may wait for their first use: beside those that run, they take the host's memory.
pub const POOL_MOST: usize = 256;
/// Entries that one diary keeps: the latest.
pub const DIARY_ENTRIES: usize = 64;
/// Bytes of a reason in a diary.
pub const WHY_CHARS: usize = 300;
/// Bytes of a diary as it is written down; the oldest entries give way.
pub const DIARY_BYTES: usize = 64 << 10;
/// Sandboxes that are stopped at once when all are.
pub const STOPS_AT_ONCE: usize = 16;
/// Files that are looked at to say how much of the disk a sandbox takes; beyond it the answer is `at least`.
pub const DISK_ENTRIES: usize = 200_000;
/// Parts of a tool's answer. Today's tools give one.
pub const ANSWER_PARTS: usize = 4;
/// Bytes, as JSON, of an answer of a tool that gives only text.
pub const TEXT_ANSWER_BYTES: usize = 1 << 20;
/// Deleted sandboxes waiting for removal; more are found at the next start.
pub const TRASH_QUEUE: usize = 256;
/// Variables of the environment that a caller may add.
pub const ENV_VARS: usize = 256;
/// Bytes of all their names and values: they travel in one packet.
pub const ENV_BYTES: usize = 32 << 10;
/// Characters of a template's name: it is a file's name and part of metadata.
pub const TEMPLATE_NAME_CHARS: usize = 64;
/// How long a removal of a template waits for those that make workspaces meanwhile, and how often it looks.
pub const TEMPLATE_PATIENCE: Duration = Duration::from_secs(10);
/// See [`TEMPLATE_PATIENCE`].
pub const TEMPLATE_RETRY: Duration = Duration::from_millis(5);
/// Bytes of all files of a template that is imported.
pub const TEMPLATE_BYTES: u64 = 64 << 30;
/// The memory that unpacking a layer may take for what was said before, as a power of two: 128 MiB, as zstd itself.
pub const TEMPLATE_WINDOW: u32 = 27;
/// Bytes of an index, a manifest or a configuration of an image. Registries take 4 MiB.
pub const IMAGE_JSON_BYTES: u64 = 4 << 20;
/// Layers of an image. Docker makes at most 127.
pub const IMAGE_LAYERS: usize = 500;
/// Indices in one another.
pub const IMAGE_NESTED: usize = 4;
/// Bytes of the variables that an image adds to the environment: with a caller's they travel in one packet.
pub const IMAGE_ENV_BYTES: usize = 8 << 10;
/// Users of a template that are named to whoever wants to remove it.
pub const TEMPLATE_USERS_NAMED: usize = 5;
/// Bytes of one file that is copied into the template.
pub const TEMPLATE_FILE_BYTES: u64 = 16 << 20;
/// Files that are copied into the template.
pub const TEMPLATE_FILES: usize = 20_000;
/// The least memory of a sandbox, in bytes: the hand, a shell and what they load.
pub const MEMORY_BYTES_MIN: u64 = 32 << 20;
/// The least processor time, in thousandths of one: below, the kernel's quota has no such value.
pub const CPU_MILLIS_MIN: u64 = 10;
/// The least number of processes; the hand keeps some of them to itself.
pub const PROCESSES_MIN: u64 = 256;
/// Bytes a second: with less, a program of the usual size takes seconds to start.
pub const IO_BYTES_MIN: u64 = 1 << 20;
/// The least of the disk that a sandbox may take, in bytes.
pub const DISK_BYTES_MIN: u64 = 16 << 20;
/// The least number of files that a sandbox may have.
pub const DISK_FILES_MIN: u64 = 1_000;
/// The least size of a disk of its own, in bytes: below, its file system takes most of it.
pub const IMAGE_BYTES_MIN: u64 = 64 << 20;
/// Characters of a command that are repeated when memory ran out.
pub const SHOWN_COMMAND_CHARS: usize = 200;
/// Bytes of the pipe between a process's stream and its reader.
pub const STREAM_BYTES: usize = 256 * 1024;
/// How often the helper's image in memory is sealed before that counts as failed.
pub const SEAL_TRIES: usize = 20;
/// How long, after its start, a provider looks for what dies just then.
pub const SWEEP_TIME: Duration = Duration::from_secs(1);
/// The pause between two looks.
pub const SWEEP_AGAIN: Duration = Duration::from_millis(50);
/// How long a sandbox that an earlier server left may take to answer the next one.
pub const ADOPTION: Duration = Duration::from_secs(10);
/// Sandboxes that are taken over at once; each waits mostly for its own processes to be scheduled.
pub const ADOPTIONS_AT_ONCE: usize = 64;
/// How long to wait before asking again for a sandbox that another process has.
pub const OWNED_RETRY: Duration = Duration::from_millis(5);
/// How long a sandbox lives on, when its server is gone, unless the next one adopts it.
pub const ORPHAN: Duration = Duration::from_secs(600);
/// Characters of a volume's name: it is a directory name in sandboxes.
pub const VOLUME_NAME_CHARS: usize = 63;
/// Volumes of one sandbox: each is a mount more that every start waits for.
pub const VOLUMES_OF_ONE: usize = jail::plan::ATTACHED;
/// Volumes of one workspace: the start of a sandbox that has any looks through all.
pub const VOLUMES_OF_WORKSPACE: usize = 100;
/// Bytes of what is written down of a volume, or of the volumes of a sandbox.
pub const VOLUME_RECORD_BYTES: u64 = 64 << 10;
/// Names of sandboxes in the words that refuse to remove a volume.
pub const SHOWN_SANDBOXES: usize = 5;
/// Bytes of what people say of a snapshot.
pub const NOTE_CHARS: usize = 500;
/// Snapshots of one sandbox.
pub const SNAPSHOTS: usize = 200;
/// Layers of one workspace that are left as they are; each makes finding a name slower. Measured: 20 cost three
/// times what one does.
pub const LAYERS_MANY: usize = 16;
/// Layers of one workspace at most: the kernel takes 500, and the words of a mount must fit a page.
pub const LAYERS_MOST: usize = 64;
/// Directories in one another that are copied or merged; each holds two descriptors.
pub const TREE_DEPTH: usize = 200;
/// How long a sandbox that runs may stand still while its files are copied.
pub const STANDSTILL: Duration = Duration::from_secs(60);
/// Exports and imports at once: each has two threads and up to 16 MiB.
pub const ARCHIVES_AT_ONCE: usize = 8;
/// Pieces of an archive between a thread and a connection, 128 KiB each; beyond it the faster one waits.
pub const ARCHIVE_PIECES: usize = 8;
/// How long nothing of an archive may come or be taken before it is given up: meanwhile no garbage is collected.
pub const ARCHIVE_STALL: Duration = Duration::from_secs(60);
/// Bytes that an archive may say of one entry beside its content, and of zeros after its end.
pub const ARCHIVE_WORDS: usize = 1 << 20;
/// Files and directories of an archive that is imported.
pub const ARCHIVE_ENTRIES: u64 = 4_000_000;
/// Files with several names that an export keeps in mind; further ones become files of their own.
pub const ARCHIVE_NAMES: usize = 1 << 20;
/// An archive may unpack to so many times what it is, beyond its first [`ARCHIVE_FREE`] bytes. What is nothing but
/// zeros does not count: it takes no room.
pub const ARCHIVE_RATIO: u64 = 1_000;
/// Bytes that any archive may unpack to.
pub const ARCHIVE_FREE: u64 = 256 << 20;
/// With its zeros, an archive may unpack to so many times what may be written of it.
pub const ARCHIVE_ZEROS: u64 = 16;
/// Bytes of an archive after which the room on the host's disk is looked at again.
pub const ARCHIVE_LOOK: u64 = 64 << 20;
/// The memory that unpacking may take for what was said before, as a power of two: zstd's levels up to 19 need 8 MiB.
pub const ARCHIVE_WINDOW: u32 = 23;

const _: () = assert!(LAYERS_MANY < LAYERS_MOST);
// `l63/workspace:` a layer, and the rest of the words.
const _: () = assert!(LAYERS_MOST * 14 + 256 < 4096);
// A character takes at most six bytes in JSON.
const _: () = assert!(hand::limits::SPILL_CHARS * 6 + 1024 < TEXT_ANSWER_BYTES);
const _: () = assert!(CANCEL.as_secs() < PING_INTERVAL.as_secs());
const _: () = assert!(PING.as_secs() <= PING_INTERVAL.as_secs());
// An escaped byte takes at most six.
const _: () = assert!((ENV_BYTES + IMAGE_ENV_BYTES) * 6 / 2 <= jail::control::PACKET_BYTES);
