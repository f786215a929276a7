//! The head of an HTTP/1 request, read strictly (RFC 9112). It must never take what two servers could frame
//! or route in two ways, and it writes what it read in one form, so that what is forwarded is what was
//! judged. Bodies are not read here.

mod error;
mod head;
mod parse;
mod write;

pub use error::HeadError;
pub use head::{Body, Head, Header, TargetForm, Upgrade, Version};
pub(crate) use parse::header;
pub use parse::{Parsed, parse};
