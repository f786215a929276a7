//! What is put into a request's body. It must never pass on a byte behind one that it refuses.

use std::sync::Arc;

use vault::placeholder::{Covered, PREFIX, Placeholder, Scanner};
use zeroize::Zeroizing;

use super::spending::{Denied, Spending};
use crate::limits::PUT_IN_BODY;

/// What is put into one body.
pub(crate) struct Body {
    spending: Arc<Spending>,
    covered: Arc<Covered>,
    /// Those that end the request, and why.
    denied: Vec<(Placeholder, Denied)>,
    /// Whether anything may come out other than it goes in.
    pub(crate) changes: bool,
}

/// A body that comes in pieces.
pub(crate) struct Stream {
    body: Body,
    scanner: Scanner<Arc<Covered>>,
    noted: usize,
}

impl Body {
    pub(super) fn new(
        spending: Arc<Spending>,
        covered: Covered,
        denied: Vec<(Placeholder, Denied)>,
        changes: bool,
    ) -> Self {
        Self {
            spending,
            covered: Arc::new(covered),
            denied,
            changes,
        }
    }

    /// All of a body with credentials put in; none if there is nothing to be put in.
    ///
    /// # Errors
    /// [`Denied`].
    pub(crate) fn whole(&self, bytes: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, Denied> {
        let replaced = self.covered.whole(bytes, PUT_IN_BODY);
        let too_much = |_| Denied::too_much("body", PUT_IN_BODY);
        let Some(replaced) = replaced.map_err(too_much)? else {
            return Ok(None);
        };
        self.check(&replaced.found)?;
        self.spending.note(&replaced.found);
        Ok(Some(replaced.text))
    }

    /// The same for one that comes in pieces.
    pub(crate) fn stream(self) -> Stream {
        Stream {
            scanner: Scanner::new(Arc::clone(&self.covered)),
            body: self,
            noted: 0,
        }
    }

    fn check(&self, found: &[Placeholder]) -> Result<(), Denied> {
        match self.denied.iter().find(|(one, _)| found.contains(one)) {
            Some((_, why)) => Err(why.clone()),
            None => Ok(()),
        }
    }
}

impl Stream {
    /// Takes the next piece and appends to `out` what is decided by now.
    ///
    /// # Errors
    /// [`Denied`]: nothing of `out` may go on.
    pub(crate) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Denied> {
        self.scanner.push(piece, out);
        let found = self.scanner.found();
        if found.len() > self.noted {
            if let Err(why) = self.body.check(found) {
                self.body.spending.spent().denied = Some(why.clone());
                return Err(why);
            }
            self.body.spending.note(found);
            self.noted = found.len();
        }
        Ok(())
    }

    /// Bytes of a piece that are to be taken at one time, for what comes of them to be short.
    pub(crate) fn step(&self) -> usize {
        self.body.covered.step()
    }

    /// Whether so little is held back that it may well be no placeholder.
    pub(crate) fn holds_little(&self) -> bool {
        (1..=PREFIX.len()).contains(&self.scanner.held())
    }

    /// Bytes that are held back.
    pub(crate) fn held(&self) -> usize {
        self.scanner.held()
    }

    /// Whether what comes out may be other than what goes in.
    pub(crate) fn changes(&self) -> bool {
        self.body.changes
    }

    /// Appends what was held back.
    pub(crate) fn let_go(&mut self, out: &mut Vec<u8>) {
        self.scanner.let_go(out);
    }
}
