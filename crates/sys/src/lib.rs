//! Every kernel call that needs `unsafe`, and the allocator, each with its SAFETY argument. It decides nothing.
//!
//! What rustix already wraps safely is used from rustix; here stands only what it lacks. All
//! functions are thin: one call each, errors as `io::Error` with the errno of the kernel.

mod clone;
mod datagram;
mod disk;
mod exec;
mod fds;
#[cfg(feature = "sqlite")]
mod gather;
mod mount;
mod net;
mod steer;
mod terminal;
mod wipe;

pub use clone::{
    Forked, clone_process, flags, forget_children, hide_cgroups_above, new_user_namespace,
};
pub use datagram::{receive_to, send_from};
pub use disk::attach_disk;
pub use exec::{exec_fd, leave_session_keyring};
pub use fds::{Standard, keep_only_standard_over_exec, take_standard};
#[cfg(feature = "sqlite")]
pub use gather::{GATHERING, gathering};
pub use mount::{MountAttr, mount_setattr};
pub use net::{loopback_up, new_network, take_for_others, tell_destination};
pub use steer::steer;
pub use terminal::lead_session_on_stdin;
pub use wipe::Wiping;
