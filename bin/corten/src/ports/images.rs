//! Images by `corten-image`.

use async_trait::async_trait;
use corten_agent::ports::{self, Image, PortError};
use corten_image::{Error, ImageRef, ImageStore};

/// The port.
pub(crate) struct Images(pub(crate) ImageStore);

fn failed(error: Error) -> PortError {
    let reason = match error {
        Error::InvalidName { .. } => "InvalidImageName",
        Error::Pull { .. } => "ErrImagePull",
        Error::Io { .. } | Error::Invalid { .. } => "ImageInspectError",
    };
    PortError { reason, message: corten_base::chain(&error) }
}

fn image(image: corten_image::Image) -> Image {
    let corten_image::Image { id, tags, digests, size, entrypoint, cmd, env, working_dir, user, stop_signal } = image;
    Image { id, tags, digests, size, entrypoint, cmd, env, working_dir, user, stop_signal }
}

/// Runs what reads files where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> corten_image::Result<T> + Send + 'static,
) -> Result<T, PortError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(failed),
        Err(error) => Err(PortError { reason: "ImageInspectError", message: error.to_string() }),
    }
}

#[async_trait]
impl ports::Images for Images {
    async fn find(&self, reference: &str) -> Result<Option<Image>, PortError> {
        let (store, reference) = (self.0.clone(), reference.to_owned());
        Ok(blocking(move || store.find(&reference)).await?.map(image))
    }

    async fn pull(&self, reference: &str, credentials: &[(String, String)]) -> Result<Image, PortError> {
        let reference: ImageRef = reference.parse().map_err(failed)?;
        self.0.pull(&reference, credentials).await.map(image).map_err(failed)
    }

    async fn list(&self) -> Result<Vec<Image>, PortError> {
        let store = self.0.clone();
        Ok(blocking(move || store.list()).await?.into_iter().map(image).collect())
    }
}
