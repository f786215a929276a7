//! What the keeper does with volumes: it asks the provider that has them. It starts and ends no sandbox for one.

use super::Keeper;
use crate::error::Error;
use crate::volume::{NewVolume, Volume, VolumeId, Volumes};

impl Keeper {
    fn of_volumes(&self) -> Result<&dyn Volumes, Error> {
        let volumes = self.0.provider.volumes();
        volumes.ok_or_else(|| Error::lacking("keep volumes"))
    }

    /// As [`Volumes::create_volume`].
    ///
    /// # Errors
    /// As there.
    pub async fn create_volume(&self, new: NewVolume) -> Result<Volume, Error> {
        self.of_volumes()?.create_volume(new).await
    }

    /// As [`Volumes::list_volumes`].
    ///
    /// # Errors
    /// As there.
    pub async fn volumes(&self) -> Result<Vec<Volume>, Error> {
        self.of_volumes()?.list_volumes().await
    }

    /// As [`Volumes::volume_usage`].
    ///
    /// # Errors
    /// As there.
    pub async fn volume_usage(&self, id: &VolumeId) -> Result<(u64, bool), Error> {
        self.of_volumes()?.volume_usage(id).await
    }

    /// As [`Volumes::remove_volume`].
    ///
    /// # Errors
    /// As there.
    pub async fn remove_volume(&self, id: &VolumeId, force: bool) -> Result<(), Error> {
        self.of_volumes()?.remove_volume(id, force).await
    }
}
