//! Queries about what sandboxes reach. They are Longhand's own: no part of the hosted API.

use super::{ORDERS, Order, Paging, Pairs};
use crate::ids::SessionId;
use crate::limits::AUDIT_PAGE;
use crate::parse::Invalid;
use crate::time::Micros;

/// Which records of the audit. What is absent filters nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct EgressFilter {
    pub sandbox_id: Option<String>,
    pub session_id: Option<SessionId>,
    /// A name or an address.
    pub host: Option<String>,
    /// `allowed`, `denied` or `observed`.
    pub action: Option<&'static str>,
    /// Not before.
    pub since: Option<Micros>,
    /// Before.
    pub until: Option<Micros>,
}

/// `GET /v1/x/egress_audit`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ListEgressAudit {
    pub paging: Paging,
    pub order: Order,
    /// Only behind this place.
    pub after: u64,
    pub filter: EgressFilter,
}

/// `GET /v1/x/egress_audit/stream`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct StreamEgressAudit {
    pub filter: EgressFilter,
    /// Begins behind this place; absent: with the next record.
    pub after: Option<u64>,
}

/// `GET /v1/x/sandboxes/{id}/egress/explain`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct EgressExplain {
    /// `https://host/path`, `http://…` or `tcp://host:port`.
    pub url: String,
    /// Default: GET.
    pub method: String,
}

/// What may have been done.
pub const EGRESS_ACTIONS: [&str; 3] = ["allowed", "denied", "observed"];

/// Bytes of the longest URL.
const TEXT: usize = 8_192;
/// Bytes of the longest method.
const METHOD: usize = 32;

fn filter(pairs: &mut Pairs) -> Result<EgressFilter, Invalid> {
    let actions = EGRESS_ACTIONS.map(|action| (action, action));
    Ok(EgressFilter {
        sandbox_id: pairs.text("sandbox_id")?,
        session_id: pairs.id("session_id")?,
        host: pairs.text("host")?,
        action: pairs.choice("action", &actions)?,
        since: pairs.instant("since")?,
        until: pairs.instant("until")?,
    })
}

fn after(pairs: &mut Pairs) -> Result<Option<u64>, Invalid> {
    let place = |text: String| {
        let problem = "must be the place of a record, as in its `seq`";
        text.parse().map_err(|_| Invalid::at("after", problem))
    };
    pairs.text("after")?.map(place).transpose()
}

query!(ListEgressAudit, pairs => Self {
    paging: pairs.paging(AUDIT_PAGE)?,
    order: pairs.choice("order", &ORDERS)?.unwrap_or(Order::Desc),
    after: after(&mut pairs)?.unwrap_or(0),
    filter: filter(&mut pairs)?,
});
query!(StreamEgressAudit, pairs => Self {
    after: after(&mut pairs)?,
    filter: filter(&mut pairs)?,
});
impl EgressExplain {
    /// Reads the query string (without the question mark).
    ///
    /// # Errors
    /// As every query's; a mistake in what is there is told before what is missing.
    pub fn parse(query: &str) -> Result<Self, Invalid> {
        let mut pairs = Pairs::read(query)?;
        let (url, method) = (pairs.text("url")?, pairs.text("method")?);
        pairs.finish()?;
        let method = method.unwrap_or_else(|| "GET".to_owned());
        let is_method = (1..=METHOD).contains(&method.len())
            && method.bytes().all(|byte| byte.is_ascii_uppercase());
        if !is_method {
            let problem = "must be a method of HTTP in upper case, such as GET";
            return Err(Invalid::at("method", problem));
        }
        let Some(url) = url.filter(|url| (1..=TEXT).contains(&url.len())) else {
            let problem = "is required, as https://host/path, http://host/path or tcp://host:port";
            return Err(Invalid::at("url", problem));
        };
        Ok(Self { url, method })
    }
}
