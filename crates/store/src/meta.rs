//! Facts about the installation itself (instance id, key check values): small values by name.

use crate::error::Error;
use crate::sqlite;
use crate::store::{Back, Store};

impl Store {
    /// The value under `key`.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn meta(&self, key: &'static str) -> Result<Option<Vec<u8>>, Error> {
        match self.back() {
            Back::Sqlite(db) => db.read(move |c| sqlite::meta::get(c, key)).await,
        }
    }

    /// Stores `value` under `key` unless something stands there; returns what stands there afterwards.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn meta_init(&self, key: &'static str, value: Vec<u8>) -> Result<Vec<u8>, Error> {
        match self.back() {
            Back::Sqlite(db) => {
                db.write(move |cx| sqlite::meta::init(cx, key, &value))
                    .await
            }
        }
    }

    /// Stores `value` under `key`, over whatever stood there.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn meta_set(&self, key: &'static str, value: Vec<u8>) -> Result<(), Error> {
        match self.back() {
            Back::Sqlite(db) => db.write(move |cx| sqlite::meta::set(cx, key, &value)).await,
        }
    }
}
