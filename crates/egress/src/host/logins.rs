//! What the logins of one connection spend: each what the credentials of its sandbox are at its time. It must never log in
//! with what was taken from the sandbox meanwhile, nor forget a secret that the server was told, nor end without a
//! record.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use contract::secret::Secret;

use super::answer::Refusal;
use super::bytes::Counts;
use super::flow::Flow;
use super::http::Sought;
use crate::audit::{Action, Kind, Record};
use crate::inject::{Credentials, Denied, Spending, Spent};

/// A connection to a server, for the logins on it. It is recorded when it ends, or is dropped.
pub(super) struct Logins<'f> {
    flow: &'f Flow,
    protocol: &'static str,
    pub(super) address: IpAddr,
    is_tls: bool,
    /// Those of the last login.
    credentials: Arc<Credentials>,
    spending: Option<Arc<Spending>>,
    /// What became of those before.
    spent: Spent,
    sought: Sought,
    counts: Arc<Counts>,
    /// What is recorded; none once it was.
    why: Option<Why>,
}

/// What decided about a connection, as it is recorded.
pub(super) struct Why {
    pub(super) action: Action,
    pub(super) rule: String,
    pub(super) reason: String,
}

impl<'f> Logins<'f> {
    /// Over a connection to that address, in TLS or not, which `why` let through.
    pub(super) fn new(
        flow: &'f Flow,
        protocol: &'static str,
        (address, is_tls): (IpAddr, bool),
        why: Why,
    ) -> Self {
        let credentials = flow.carried.credentials();
        let spending = Spending::of(&credentials, &flow.target, is_tls);
        let forms = spending.as_ref().and_then(|it| it.forms());
        Self {
            flow,
            protocol,
            address,
            is_tls,
            credentials,
            spending,
            spent: Spent::default(),
            sought: Sought::of(forms),
            counts: Arc::default(),
            why: Some(why),
        }
    }

    /// What the last login spends, or the first may.
    pub(super) fn spending(&self) -> Option<&Spending> {
        self.spending.as_deref()
    }

    /// What is looked for in what the server says.
    pub(super) fn sought(&self) -> Sought {
        self.sought.clone()
    }

    /// The bytes of the connection, behind a login that comes before everything else.
    pub(super) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// What the server is shown in one more login in place of a password that is a placeholder; none if that goes as it
    /// is.
    ///
    /// # Errors
    /// [`Denied`].
    pub(super) fn password(&mut self, shown: &str) -> Result<Option<&Secret>, Denied> {
        self.renew();
        let Some(spending) = &self.spending else {
            return Ok(None);
        };
        let secret = spending.password(shown)?;
        // It is looked for before the server is told it.
        match secret {
            Some(secret) if !self.sought.add(secret, spending.forms()) => Err(Denied(
                "the credential has changed too often on this connection; connect anew".to_owned(),
            )),
            secret => Ok(secret),
        }
    }

    /// Takes the credentials that the sandbox has by now.
    fn renew(&mut self) {
        let credentials = self.flow.carried.credentials();
        if Arc::ptr_eq(&credentials, &self.credentials) {
            return;
        }
        let next = Spending::of(&credentials, &self.flow.target, self.is_tls);
        if let Some(last) = std::mem::replace(&mut self.spending, next) {
            self.spent.join(&last.spent());
        }
        self.credentials = credentials;
    }

    /// Records it with how it has ended.
    pub(super) async fn end(mut self, how: &str) {
        self.record(how).await;
    }

    /// Records it as refused.
    pub(super) async fn refused(mut self, refusal: &Refusal) {
        self.why = Some(Why {
            action: Action::Denied,
            rule: refusal.rule.clone(),
            reason: refusal.reason.clone(),
        });
        self.record("").await;
    }

    async fn record(&mut self, how: &str) {
        if let Some(record) = self.ended(how) {
            // Where it cannot be recorded nothing more is let through; this has been.
            let _ = self.flow.carried.host.audit.record(record).await;
        }
    }

    fn ended(&mut self, how: &str) -> Option<Record> {
        let why = self.why.take()?;
        let flow = self.flow;
        let mut record = Record {
            address: Some(self.address),
            bytes_out: self.counts.out.load(Ordering::Relaxed),
            bytes_in: self.counts.back.load(Ordering::Relaxed),
            ..flow.record(Kind::Flow, self.protocol, why.action, &why.rule, why.reason)
        };
        if let Some(last) = &self.spending {
            self.spent.join(&last.spent());
        }
        self.spent.tell(&mut record);
        record.reason.push_str(how);
        Some(record)
    }
}

impl Drop for Logins<'_> {
    fn drop(&mut self) {
        let Some(record) = self.ended("; cut off") else {
            return;
        };
        let host = Arc::clone(&self.flow.carried.host);
        self.flow.carried.host.tasks.spawn(async move {
            let _ = host.audit.record(record).await;
        });
    }
}
