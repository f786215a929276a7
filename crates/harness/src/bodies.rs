//! Bodies of the requests that programs in sandboxes send to their models: what of the server's memory they take together,
//! each sandbox with a share of it, and how one is read. It knows no path and no dialect, and must never hold what it has
//! not counted.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt as _;
use serde_json::{Map, Value};
use tokio::time::timeout;

use crate::limits::{
    FOREIGN_BODIES_BYTES, FOREIGN_BODY, FOREIGN_REFUSED, FOREIGN_REQUEST_BYTES,
    FOREIGN_REQUEST_VALUES, FOREIGN_VALUE_BYTES,
};

/// What all sandboxes of this process hold.
static ALL: Budget = Budget::new(FOREIGN_BODIES_BYTES);

struct Budget {
    most: usize,
    held: Mutex<usize>,
}

impl Budget {
    const fn new(most: usize) -> Self {
        let held = Mutex::new(0);
        Self { most, held }
    }

    fn held(&self) -> usize {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that requests of sandboxes to their models hold in this process, and how many they may.
#[must_use]
pub fn held() -> (usize, usize) {
    (ALL.held(), ALL.most)
}

/// What one sandbox may hold: never more than it leaves to all others. One alone has half of everything, of two greedy ones
/// each a third, and whoever comes next finds room.
#[derive(Clone)]
pub(crate) struct Share {
    budget: &'static Budget,
    /// Changed under the lock of the budget only.
    own: Arc<AtomicUsize>,
}

impl Default for Share {
    fn default() -> Self {
        Self::of(&ALL)
    }
}

impl Share {
    fn of(budget: &'static Budget) -> Self {
        let own = Arc::default();
        Self { budget, own }
    }

    fn hold(&self) -> Hold {
        let share = self.clone();
        Hold { share, bytes: 0 }
    }
}

/// The room of one body, given back when it is dropped.
pub(crate) struct Hold {
    share: Share,
    bytes: usize,
}

impl Hold {
    /// Takes room for so many bytes more; false if there is none.
    fn take(&mut self, more: usize) -> bool {
        let Share { budget, own } = &self.share;
        let mut held = budget.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = own.load(Ordering::Relaxed).saturating_add(more);
        let left = budget.most.checked_sub(held.saturating_add(more));
        if left.is_none_or(|left| mine > left) {
            return false;
        }
        *held += more;
        own.store(mine, Ordering::Relaxed);
        self.bytes += more;
        true
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Share { budget, own } = &self.share;
        let mut held = budget.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held -= self.bytes;
        own.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Why a body is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the request is larger than {} MiB", FOREIGN_REQUEST_BYTES >> 20)]
    TooLarge,
    #[error("the request has more than {FOREIGN_REQUEST_VALUES} values")]
    TooMany,
    #[error("the server holds as much of such requests as it may; try again")]
    Crowded,
    #[error("the request took longer than {} seconds to come", FOREIGN_BODY.as_secs())]
    Slow,
    #[error("the request was cut")]
    Cut,
    #[error("the body must be a JSON object")]
    NoObject,
}

impl Refused {
    /// The status to say it by.
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::TooLarge | Self::TooMany => 413,
            Self::Crowded => 429,
            Self::Slow => 408,
            Self::Cut | Self::NoObject => 400,
        }
    }
}

/// Reads a body that is a JSON object. Its room is taken before it is read, as far as its length is announced; whoever
/// takes the object keeps the [`Hold`] for as long as that is in memory. Cancel safe: the room is given back.
///
/// # Errors
/// [`Refused`].
pub(crate) async fn read<B>(
    mut body: B,
    share: &Share,
) -> Result<(Map<String, Value>, Hold), Refused>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut hold = share.hold();
    let gathered = timeout(FOREIGN_BODY, gathered(&mut body, &mut hold)).await;
    let refused = match gathered.unwrap_or(Err(Refused::Slow)) {
        Ok(bytes) => return Ok((parsed(&bytes, &mut hold)?, hold)),
        Err(refused) => refused,
    };
    drop(hold);
    if matches!(refused, Refused::TooLarge | Refused::Crowded) {
        // Whoever is still sending would find the connection reset, and never see why.
        let _ = timeout(FOREIGN_REFUSED, discard(&mut body)).await;
    }
    Err(refused)
}

async fn gathered<B>(body: &mut B, hold: &mut Hold) -> Result<Vec<u8>, Refused>
where
    B: Body<Data = Bytes> + Unpin,
{
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    grow(hold, announced)?;
    // Memory only as it is filled.
    bytes.reserve_exact(announced);
    while let Some(frame) = body.frame().await {
        // Trailers carry nothing for us.
        let Ok(piece) = frame.map_err(|_| Refused::Cut)?.into_data() else {
            continue;
        };
        grow(hold, bytes.len() + piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Sees to it that there is room for a body of that length.
fn grow(hold: &mut Hold, length: usize) -> Result<(), Refused> {
    if length > FOREIGN_REQUEST_BYTES {
        return Err(Refused::TooLarge);
    }
    match hold.take(length.saturating_sub(hold.bytes)) {
        true => Ok(()),
        false => Err(Refused::Crowded),
    }
}

async fn discard<B>(body: &mut B)
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut seen = 0;
    while let Some(Ok(frame)) = body.frame().await {
        seen += frame.data_ref().map_or(0, Bytes::len);
        if seen > FOREIGN_REQUEST_BYTES {
            return;
        }
    }
}

fn parsed(bytes: &[u8], hold: &mut Hold) -> Result<Map<String, Value>, Refused> {
    let values = values(bytes);
    if values > FOREIGN_REQUEST_VALUES {
        return Err(Refused::TooMany);
    }
    if !hold.take(values * FOREIGN_VALUE_BYTES) {
        return Err(Refused::Crowded);
    }
    serde_json::from_slice(bytes).map_err(|_| Refused::NoObject)
}

/// How many values and names of fields a JSON text has at most: each stands behind one of these signs, but for the first.
fn values(json: &[u8]) -> usize {
    let (mut values, mut bytes) = (1, json.iter());
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' | b',' | b':' => values += 1,
            b'"' => {
                while let Some(byte) = bytes.next().filter(|byte| **byte != b'"') {
                    if *byte == b'\\' {
                        bytes.next();
                    }
                }
            }
            _ => {}
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{StreamExt as _, stream};
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};
    use serde_json::json;

    use super::*;

    fn share(most: usize) -> Share {
        Share::of(Box::leak(Box::new(Budget::new(most))))
    }

    async fn refused<B: Body<Data = Bytes> + Unpin>(body: B, share: &Share) -> Refused {
        let read = read(body, share).await;
        assert_eq!(
            share.budget.held(),
            0,
            "nothing is left of what was refused"
        );
        read.map(|(object, _)| object).unwrap_err()
    }

    #[test]
    fn a_sandbox_holds_no_more_than_it_leaves_to_others_and_gives_it_back() {
        let first = share(90);
        let (second, third) = (Share::of(first.budget), Share::of(first.budget));
        let (mut a, mut b, mut c) = (first.hold(), first.hold(), second.hold());
        assert!(a.take(40) && b.take(5) && !b.take(1), "half");
        assert!(c.take(22) && !c.take(1), "half of what is left");
        let mut last = third.hold();
        assert!(last.take(11), "there is room for the next one");
        drop((a, c));
        assert!(!last.take(usize::MAX));
        assert!(b.take(30), "what was given back can be taken");
        drop((b, last));
        assert_eq!(first.budget.held(), 0);
    }

    #[test]
    fn values_are_counted_as_many_as_there_are_or_more_and_texts_have_none() {
        for (json, count) in [
            ("0", 1),
            (r#"{"a": [1, 2, {}], "b": "[,,,\"{{{\\"}"#, 9),
            (r#""\\",,"#, 3),
            (r#"["unended, \"#, 2),
        ] {
            assert_eq!(values(json.as_bytes()), count, "{json}");
        }
    }

    #[tokio::test]
    async fn a_body_is_read_with_its_room_or_refused_with_the_reason() {
        let all = share(FOREIGN_BODIES_BYTES);
        let text = r#"{"model": "m", "messages": []}"#;
        let body = |text: String| Full::new(Bytes::from(text));
        let (object, hold) = read(body(text.to_owned()), &all).await.ok().unwrap();
        assert_eq!(Value::Object(object), json!({"model": "m", "messages": []}));
        assert!(
            all.budget.held() > text.len(),
            "the values are counted as well"
        );
        drop(hold);
        let many = format!(r#"{{"a": [{}0]}}"#, "0,".repeat(FOREIGN_REQUEST_VALUES));
        let large = "0".repeat(FOREIGN_REQUEST_BYTES + 1);
        for (text, why) in [
            (String::new(), Refused::NoObject),
            ("[]".to_owned(), Refused::NoObject),
            (many, Refused::TooMany),
            (large.clone(), Refused::TooLarge),
        ] {
            assert_eq!(refused(body(text), &all).await, why);
        }
        // The same without a word of its length.
        let pieces = stream::iter([Bytes::from(large.clone()), Bytes::from("0")]);
        let pieces = pieces.map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        assert_eq!(
            refused(StreamBody::new(pieces), &all).await,
            Refused::TooLarge
        );
        assert_eq!(
            refused(body(text.to_owned()), &share(50)).await,
            Refused::Crowded
        );
        let values = share(200);
        assert_eq!(
            refused(body(text.to_owned()), &values).await,
            Refused::Crowded
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_refused_in_time_and_one_that_is_cut_at_once() {
        let all = share(FOREIGN_BODIES_BYTES);
        let begun = stream::once(async { Ok::<_, Infallible>(Frame::data(Bytes::from("{"))) });
        let stalled = StreamBody::new(Box::pin(begun.chain(stream::pending())));
        assert_eq!(refused(stalled, &all).await, Refused::Slow);
        let cut = stream::iter([Err::<Frame<Bytes>, _>("cut")]);
        assert_eq!(refused(StreamBody::new(cut), &all).await, Refused::Cut);
    }
}
