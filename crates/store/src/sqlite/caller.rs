//! Does what is queued on the thread that asks, for simulations: nothing here waits for another thread, so
//! that one seed always does the same.

use std::fmt::{Debug, Formatter};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::mpsc;

use super::reader;
use super::writer::Writer;
use crate::replica::ReplicaName;
use crate::rules::fault::Trouble;
use crate::runs::Holder;
use crate::simulation::Line;

/// What the threads of the store have elsewhere.
pub(super) struct Caller {
    writer: Mutex<Writer>,
    reader: Mutex<Connection>,
    asked: Arc<Mutex<mpsc::Receiver<reader::Message>>>,
    line: Arc<dyn Line>,
}

impl Debug for Caller {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.line.fmt(f)
    }
}

impl Caller {
    pub(super) fn new(
        writer: Writer,
        reader: Connection,
        asked: Arc<Mutex<mpsc::Receiver<reader::Message>>>,
        line: Arc<dyn Line>,
    ) -> Self {
        Self {
            writer: Mutex::new(writer),
            reader: Mutex::new(reader),
            asked,
            line,
        }
    }

    pub(super) async fn there(&self, writes: bool) -> Result<(), Trouble> {
        let arrived = self.line.there(writes).await;
        arrived.map_err(Trouble::Unavailable)
    }

    pub(super) fn go(&self, writes: bool) {
        crate::simulation::for_one_of(self.line.fleet(), || {
            if writes {
                let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
                writer.pump();
            } else {
                let conn = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
                reader::pump(&conn, &self.asked);
            }
        });
        self.line.done();
    }

    /// As whom it is there among several.
    pub(super) fn replica(&self) -> Option<(ReplicaName, Holder)> {
        self.line.fleet().map(|fleet| fleet.me())
    }

    pub(super) async fn back(&self, writes: bool) -> Result<(), Trouble> {
        let arrived = self.line.back(writes).await;
        arrived.map_err(Trouble::Unavailable)
    }
}
