//! Facts about the installation itself (instance id, key check values): small values by name.

use crate::error::Error;
use crate::store::{Store, on_back};

impl Store {
    /// The value under `key`.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn meta(&self, key: &'static str) -> Result<Option<Vec<u8>>, Error> {
        on_back!(self, read, |c| meta::get(c, key))
    }

    /// Stores `value` under `key` unless something stands there; returns what stands there afterwards.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn meta_init(&self, key: &'static str, value: Vec<u8>) -> Result<Vec<u8>, Error> {
        on_back!(self, write, |cx| meta::init(cx, key, &value))
    }

    /// Stores `value` under `key`, over whatever stood there.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn meta_set(&self, key: &'static str, value: Vec<u8>) -> Result<(), Error> {
        on_back!(self, write, |cx| meta::set(cx, key, &value))
    }
}
