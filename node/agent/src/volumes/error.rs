//! What can go wrong with a pod's volumes.

use std::io;
use std::path::PathBuf;

/// A volume that could not be made; the reason of the event is `FailedMount`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    /// A volume that is known and could not be made.
    #[error("MountVolume.SetUp failed for volume {volume:?} : {message}")]
    SetUp {
        /// Name in the pod.
        volume: String,
        /// Why.
        message: String,
    },
    /// A claim that cannot be used, or not yet.
    #[error("Unable to attach or mount volumes: unmounted volumes=[{volume}]: error processing PVC {claim}: {message}")]
    Claim {
        /// Name in the pod.
        volume: String,
        /// Namespace and name.
        claim: String,
        /// Why.
        message: String,
    },
    /// A volume of a kind that is not known.
    #[error("volume {volume:?}: {kind} volumes are not supported yet")]
    Unsupported {
        /// Name in the pod.
        volume: String,
        /// Such as `persistentVolumeClaim`.
        kind: String,
    },
    /// Something that is not about one volume.
    #[error("{0}")]
    Pod(String),
    /// A file or folder.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was to be done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it could not.
        source: io::Error,
    },
}

impl VolumeError {
    /// Reason of the event that tells of it.
    pub(crate) const REASON: &'static str = "FailedMount";

    pub(super) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}
