//! Set-up and supervision of one sandbox, in a fixed order. It never continues after a step that failed.
//!
//! [`plan`] is the data spoken with the server, [`control`] how; [`groups`], [`PidOne`] and [`Record`] are
//! for both sides; everything else runs only in the static helper, whose single thread is what makes code after clone sound (see `sys::clone_process`).

#![forbid(unsafe_code)]

mod attached;
mod carrier;
pub mod control;
mod error;
pub mod groups;
mod gvisor;
pub mod image;
mod mounts;
mod net;
mod netlink;
mod nursery;
mod pid_one;
pub mod plan;
mod privileges;
mod record;
mod seccomp;
mod setup;
mod stage;
mod supervisor;
mod tproxy;
mod userns;
mod watch;

pub use gvisor::prepare_in_gvisor;
pub use nursery::{nursery, nursery_of_user};
pub use pid_one::PidOne;
pub use record::Record;
pub use supervisor::{try_network, try_network_of_user};
pub use userns::reclaim;
