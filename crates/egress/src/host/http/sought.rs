//! The secrets that are looked for in what a server says on one connection: what it
//! was told it may say at any time.

use std::sync::{Arc, PoisonError, RwLock};

use vault::scrub::Forms;
use zeroize::Zeroizing;

/// What is looked for, to be shared by those who look and those who know.
#[derive(Clone, Default)]
pub(in super::super) struct Sought(Arc<RwLock<Vec<Arc<Forms>>>>);

impl Sought {
    pub(in super::super) fn of(forms: Option<Arc<Forms>>) -> Self {
        Self(Arc::new(RwLock::new(forms.into_iter().collect())))
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
