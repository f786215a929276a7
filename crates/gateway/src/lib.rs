//! The HTTP edge: routes, keys, headers, errors, paging, event streams and limits. It has no rules of
//! its own: `contract` says what is well-formed, `session` what is allowed, `store` what is true.
//!
//! Every request passes the same checks in the recorded order (`admit`), its route stands in one table
//! (`table`), and every error becomes an envelope in one place (`error`).
#![forbid(unsafe_code)]

mod admit;
mod auth;
mod body;
mod call;
mod cast;
mod client;
mod cors;
mod cursor;
mod disk;
mod error;
pub mod frames;
mod gateway;
pub mod limits;
pub mod metrics;
mod once;
mod openapi;
mod paging;
mod readings;
mod reply;
mod router;
mod routes;
mod sandbox_metrics;
mod serve;
mod shares;
mod sse;
mod table;
mod watched;

pub use disk::Floor;
pub use gateway::{Config, Egress, Gateway, Installed, Parts};
pub use limits::{Limits, Rate};
pub use metrics::Metrics;
pub use openapi::{llms_txt, openapi, routes_markdown};
pub use router::{control_router, router};
pub use sandbox_metrics::SandboxMetrics;
pub use serve::tls::{Tls, TlsError};
pub use serve::{Drained, Front, serve, serve_edge, serve_unix};
pub use table::{RouteInfo, routes};
