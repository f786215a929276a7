//! Owns what workspaces are made of: layers that are sealed and never written again, the stack of them under each
//! sandbox, and snapshots, which name a stack. It starts no sandbox, and knows none that runs.
//!
//! **How it stays whole.** Whoever is killed leaves one of two states, the one before or the one after, or an intent
//! that the next one who comes finishes:
//!
//! - A *layer* is a directory in `layers/`. Nothing in it ever changes. One that nobody refers to is garbage.
//! - The *stack* of a sandbox is a symbolic link whose text names its layers, lowest first: file systems with a journal
//!   keep the order of such changes over a power cut without a flush.
//! - A *seal* is announced by a second link, `stack.next`. From then on it happens, whoever finishes it.
//! - A *new workspace* is made in a directory that is no sandbox's and gets its name by one rename; one that takes the
//!   place of another, by an exchange.
//! - An *import* is a layer that nobody refers to until it is whole and on the disk.
//! - A *snapshot* is a file that names a stack. It gets its name when all it refers to is on the disk.
//!
//! Garbage is collected while nobody makes any: makers share a lock that the collector has for itself.

mod copy;
mod directories;
mod hold;
mod layers;
mod ledger;
mod manifest;
mod merge;
mod pack;
mod reached;
mod shares;
mod stack;
mod templates;
mod travel;
mod unpack;

#[cfg(test)]
mod hard_tests;
#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod share_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod travel_fuzz;
#[cfg(test)]
mod travel_limits;
#[cfg(test)]
mod travel_tests;

pub(crate) use copy::{each_attribute_of, names, open_dir, too_deep};
pub(crate) use layers::{HELD, Layers, Replaced};
pub use ledger::Shares;
pub(crate) use reached::reached;
#[cfg(test)]
pub(crate) use reached::tests::dies_after;
pub(crate) use travel::Still;
