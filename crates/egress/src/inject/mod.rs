//! Credentials that a sandbox uses without holding them: which of them a host is for, what takes a placeholder's
//! place in a request, and what is taken out of an answer. It must never give one to a host that it is not for,
//! nor keep one open longer than the request that it is for.
//!
//! What the server hands over is sealed ([`CredentialFile::lent`]); it is opened here, for as long as requests are under
//! way that it covers.

mod body;
mod certificate;
mod credentials;
mod refused;
mod repository;
mod spending;
mod template;
mod unpack;

pub(crate) use self::body::{Body, Stream};
pub(crate) use self::credentials::Credentials;
pub use self::credentials::{CredentialFile, CredentialsFile};
pub(crate) use self::refused::Refused;
pub use self::repository::Repository;
pub(crate) use self::spending::{Denied, Spending, Spent};
pub use self::template::Template;
pub(crate) use self::template::To;
pub(crate) use self::unpack::{Packed, Unpack};

/// The rule that a request is refused by for want of what a placeholder in it stands for.
pub(crate) const RULE: &str = "credentials";
