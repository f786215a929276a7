//! A request whose token its server refuses, sent once more with the one that the server behind it has by then. What
//! cannot be said twice is not: its client sees the refusal, and finds the new token when it asks again.

use std::sync::Arc;

use http::StatusCode;

use super::super::bytes::Counts;
use super::super::carried::Spoken;
use super::asking::Asking;
use super::body::Sent;
use super::early::Early;
use super::exchange::{Answered, Judged, Refused};
use super::way::Channel;
use crate::inject::Spending;

impl Channel {
    /// Sends a request that is let through, and once more if a token in it is refused that can be renewed.
    pub(super) async fn send(
        self: &Arc<Self>,
        asking: &mut Asking,
        judged: &mut Judged,
        body: Sent,
        counts: Arc<Counts>,
        early: Early,
    ) -> Result<Answered, Refused> {
        let of_another = Arc::<Counts>::default();
        let same = judged.renewable().and_then(|_| body.copy(&of_another));
        let answered = self
            .send_once(asking, judged, body, counts, early.clone())
            .await?;
        if answered.response.status() != StatusCode::UNAUTHORIZED {
            return Ok(answered);
        }
        let Some(refused) = judged.renewable().and_then(|it| it.refused()) else {
            return Ok(answered);
        };
        let is_renewed = self.flow.carried.renewed(&refused).await;
        let Some(same) = same.filter(|_| is_renewed) else {
            return Ok(answered);
        };
        answered.exchange.end().await;
        judged.spending = self.spend_again(asking, judged)?;
        self.send_once(asking, judged, same, of_another, early)
            .await
    }

    /// Puts what is lent now in the place of what was.
    fn spend_again(
        &self,
        asking: &mut Asking,
        judged: &Judged,
    ) -> Result<Option<Arc<Spending>>, Refused> {
        let credentials = self.flow.carried.credentials();
        let (target, is_tls) = (&self.flow.target, self.spoken == Spoken::Tls);
        let Some(spending) = Spending::of(&credentials, target, is_tls) else {
            return Ok(None);
        };
        let (to, headers, query) = asking.head(&self.flow);
        spending
            .head(to, headers, query)
            .map_err(|why| self.denied(&why))?;
        // What was put into its body, or left there, is there still.
        if let Some(before) = &judged.spending {
            spending.spent().join(&before.spent());
        }
        Ok(Some(spending))
    }
}

impl Judged {
    /// What it spends, if a token of that can be renewed.
    fn renewable(&self) -> Option<&Arc<Spending>> {
        self.spending.as_ref().filter(|it| it.is_renewable())
    }
}
