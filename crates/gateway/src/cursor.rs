//! Page cursors: opaque texts that say where a list goes on. They hold a position, never a right:
//! whoever presents one is checked like everybody else.
//!
//! Layout, base64url without padding: version, order, hash of the list's fixed filters, position. The
//! hash binds a cursor to its list and to its `created_at` bounds; other filters and `limit` may change
//! between pages (behaviours §1).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use contract::error::ApiError;
use contract::limits::CURSOR;
use contract::query::Order;
use contract::time::Micros;

const VERSION: u8 = 1;

/// Which side of the position a page lies on, in the order of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// After it: `next_page`.
    After,
    /// Before it: `prev_page`.
    Before,
}

/// Where a list goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor<P> {
    pub(crate) side: Side,
    pub(crate) position: P,
}

/// A place in a list.
pub(crate) trait Position: Sized {
    const BYTES: usize;
    fn write(&self, out: &mut Vec<u8>);
    fn read(bytes: &[u8]) -> Option<Self>;
}

/// A place in the log of a session, or a version of an agent.
impl Position for u64 {
    const BYTES: usize = 8;

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self::from_be_bytes(bytes.try_into().ok()?))
    }
}

/// A place in a list that is sorted by creation and id.
impl Position for (Micros, u128) {
    const BYTES: usize = 24;

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.0.to_be_bytes());
        out.extend_from_slice(&self.1.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (at, id) = bytes.split_at_checked(8)?;
        Some((
            Micros(i64::from_be_bytes(at.try_into().ok()?)),
            u128::from_be_bytes(id.try_into().ok()?),
        ))
    }
}

/// What a cursor belongs to: the list (its path) and the bounds that may not change between pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scope {
    order: Order,
    hash: u64,
}

impl Scope {
    /// The scope of the list at `path`, in this order, between these bounds.
    pub(crate) fn new(path: &str, order: Order, bounds: &[Option<Micros>]) -> Self {
        // FNV-1a: stable over releases, and nothing depends on its being hard to collide.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut eat = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        eat(path.as_bytes());
        for bound in bounds {
            match bound {
                None => eat(&[0]),
                Some(at) => {
                    eat(&[1]);
                    eat(&at.0.to_be_bytes());
                }
            }
        }
        Self { order, hash }
    }

    /// Writes a cursor.
    pub(crate) fn write<P: Position>(&self, side: Side, position: &P) -> String {
        let mut out = Vec::with_capacity(10 + P::BYTES);
        out.push(VERSION);
        out.push(match (self.order, side) {
            (Order::Asc, Side::After) => 0,
            (Order::Desc, Side::After) => 1,
            (Order::Asc, Side::Before) => 2,
            (Order::Desc, Side::Before) => 3,
        });
        out.extend_from_slice(&self.hash.to_be_bytes());
        position.write(&mut out);
        URL_SAFE_NO_PAD.encode(out)
    }

    /// Reads a cursor of this list.
    ///
    /// # Errors
    /// 400, with the recorded texts: it is no cursor of this list, or one of the other order.
    pub(crate) fn read<P: Position>(&self, text: &str) -> Result<Cursor<P>, ApiError> {
        let bad = || ApiError::invalid("invalid page cursor");
        if text.len() > CURSOR {
            return Err(bad());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad())?;
        let [VERSION, direction, rest @ ..] = bytes.as_slice() else {
            return Err(bad());
        };
        let (order, side) = match direction {
            0 => (Order::Asc, Side::After),
            1 => (Order::Desc, Side::After),
            2 => (Order::Asc, Side::Before),
            3 => (Order::Desc, Side::Before),
            _ => return Err(bad()),
        };
        let (hash, position) = rest.split_at_checked(8).ok_or_else(bad)?;
        if position.len() != P::BYTES {
            return Err(bad());
        }
        let position = P::read(position).ok_or_else(bad)?;
        if order != self.order {
            return Err(ApiError::invalid("page token order does not match request"));
        }
        if hash != self.hash.to_be_bytes() {
            return Err(bad());
        }
        Ok(Cursor { side, position })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(result: Result<Cursor<u64>, ApiError>) -> String {
        result.map_or_else(|error| error.message, |cursor| format!("{cursor:?}"))
    }

    #[test]
    fn a_cursor_reads_back_in_its_own_list() {
        let scope = Scope::new("/v1/sessions", Order::Desc, &[Some(Micros(5)), None]);
        let position = (Micros(-3), u128::MAX);
        for side in [Side::After, Side::Before] {
            let text = scope.write(side, &position);
            assert_eq!(scope.read(&text), Ok(Cursor { side, position }));
        }
    }

    #[test]
    fn a_cursor_of_another_order_or_list_or_bound_is_refused() {
        let scope = Scope::new("/v1/a", Order::Asc, &[None]);
        let other = |path: &str, order, bound| {
            message(scope.read(&Scope::new(path, order, &[bound]).write(Side::After, &7_u64)))
        };
        assert_eq!(
            other("/v1/a", Order::Desc, None),
            "page token order does not match request"
        );
        assert_eq!(other("/v1/b", Order::Asc, None), "invalid page cursor");
        assert_eq!(
            other("/v1/a", Order::Asc, Some(Micros(1))),
            "invalid page cursor"
        );
    }

    #[test]
    fn garbage_is_an_invalid_cursor() {
        let scope = Scope::new("/v1/a", Order::Asc, &[]);
        let good = scope.write(Side::After, &7_u64);
        for bad in [
            "",
            "x",
            "====",
            &good[1..],
            &format!("{good}AA"),
            &"A".repeat(5_000),
        ] {
            assert_eq!(message(scope.read(bad)), "invalid page cursor", "{bad}");
        }
    }
}
