//! The secrets that are looked for in what a server says on one connection. There may be more of them while it lasts, and
//! never fewer: what a server was told it may say at any time.

use std::sync::{Arc, PoisonError, RwLock};

use contract::secret::Secret;
use vault::placeholder::Placeholder;
use vault::scrub::Forms;
use zeroize::Zeroizing;

/// Sets of them on one connection.
const SETS: usize = 8;

/// What is looked for, to be shared by those who look and those who know.
#[derive(Clone, Default)]
pub(in super::super) struct Sought(Arc<RwLock<Vec<Arc<Forms>>>>);

impl Sought {
    pub(in super::super) fn of(forms: Option<Arc<Forms>>) -> Self {
        Self(Arc::new(RwLock::new(forms.into_iter().collect())))
    }

    /// Has that secret, which is one of `forms`, be looked for from now on; whether there was room for it.
    pub(in super::super) fn add(&self, secret: &Secret, forms: Option<Arc<Forms>>) -> bool {
        let Some(forms) = forms else {
            return true;
        };
        let mut sets = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // All of it, not only another secret within it.
        let is_sought = |set: &Arc<Forms>| {
            let stands = set.whole(secret.expose().as_bytes());
            let stands = stands.and_then(|it| Placeholder::parse(str::from_utf8(&it).ok()?));
            stands.is_some()
        };
        if sets.iter().any(is_sought) {
            return true;
        }
        let has_room = sets.len() < SETS;
        if has_room {
            sets.push(forms);
        }
        has_room
    }

    /// Replaces them in `text` by what stands for them.
    pub(super) fn replace(&self, text: &mut Zeroizing<Vec<u8>>) {
        for set in &*self.sets() {
            if let Some(clean) = set.whole(text) {
                *text = Zeroizing::new(clean);
            }
        }
    }

    /// Replaces them by as many bytes of that.
    pub(super) fn mask(&self, text: &mut [u8]) {
        let sets = self.sets();
        let Some((first, others)) = sets.split_first() else {
            return;
        };
        let said = Zeroizing::new(if others.is_empty() {
            Vec::new()
        } else {
            text.to_vec()
        });
        first.mask(text);
        // Each looks at what was said: a secret may have another in it.
        for set in others {
            let mut masked = said.clone();
            set.mask(&mut masked);
            for (byte, (was, is)) in text.iter_mut().zip(said.iter().zip(masked.iter())) {
                if was != is {
                    *byte = *is;
                }
            }
        }
    }

    /// How many of the last bytes of `text` may be the beginning of one.
    pub(super) fn begun(&self, text: &[u8]) -> usize {
        let begun = |set: &Arc<Forms>| set.begun(text);
        self.sets().iter().map(begun).max().unwrap_or(0)
    }

    fn sets(&self) -> std::sync::RwLockReadGuard<'_, Vec<Arc<Forms>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forms(secret: &Secret) -> Option<Arc<Forms>> {
        let placeholder = Placeholder::parse(&format!("lhph{}", "7".repeat(40))).unwrap();
        Some(Arc::new(Forms::of(&[(secret, placeholder)])))
    }

    #[test]
    fn what_a_server_was_told_is_looked_for_as_long_as_there_is_room_for_it() {
        let secret = |number: usize| Secret::new(format!("secret number {number}"));
        let sought = Sought::of(forms(&secret(1)));
        // The second has the first in it.
        for number in [1, 12, 12, 3, 4, 5, 6, 7, 8, 3] {
            let secret = secret(number);
            assert!(sought.add(&secret, forms(&secret)), "{number}");
            let mut text = secret.expose().to_owned().into_bytes();
            sought.mask(&mut text);
            assert!(text.starts_with(b"lhph77777777"), "{number}");
            assert!(!text.ends_with(b"2"), "{number}");
        }
        assert!(!sought.add(&secret(9), forms(&secret(9))));
        assert!(sought.add(&Secret::new("short".to_owned()), None));
    }
}
