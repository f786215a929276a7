//! Templates: the read-only roots that sandboxes lie on. One is imported once from a tar archive or an image of the Open
//! Container Initiative (OCI), which anybody may have made, and never changes; its name is the digest of what is in it.
//! Sandboxes share it. It starts no sandbox and knows none.
//!
//! **Where.** In the directory of templates: `sha256/DIGEST/tree`, the files; `sha256/DIGEST/template.json`, what is known
//! of them; `names/NAME`, a link that says which template has that name now; `drafts/`, what is being imported; `gathered/`,
//! the image that comes from a registry.
//!
//! **How it stays whole.** A draft gets its place by one rename when all of it is on the disk. What a process leaves that is
//! killed is a draft, which the next import removes.
//!
//! **What keeps an import from the host's files.** Names are resolved by the kernel, below the draft and nowhere else
//! (`openat2`, `RESOLVE_IN_ROOT`): whatever links an archive brings, they lead to what it has brought itself.

mod apply;
mod architecture;
mod digest;
mod gather;
mod home;
mod import;
mod known;
mod name;
mod oci;
mod prepare;
mod rooted;
mod source;
pub(crate) mod trusted;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod gather_tests;
#[cfg(test)]
mod oci_tests;
#[cfg(test)]
mod tests;

pub use gather::{Gathering, Incoming};
pub use home::Home as TemplateHome;
pub(crate) use home::of_the_host;
pub use import::{Imported, NewTemplate, Progress};
pub use known::{Template, Templates};
pub use name::{TemplateId, TemplateName, TemplateRef};
pub use oci::Blob;
pub(crate) use rooted::Rooted;
