//! Images: a content store of blobs, references and unpacked layers, plus import and pull.
//!
//! Everything is plain files that are only ever added by rename, so any number of processes may read and
//! write one store at a time: `corten image import` works beside a running node without talking to it.
//!
//! ```text
//! <root>/blobs/sha256/<hex>      manifests, configs, compressed layers, as they were received
//! <root>/refs/<escaped name>     JSON: which manifest and config a name stands for
//! <root>/layers/<hex of diffID>  one layer's files, whiteouts in overlayfs' form
//! <root>/tmp/                    what is being written
//! ```
//!
//! Specs: OCI image spec 1.1, docker-archive as `docker save` writes it.

mod blobs;
mod import;
mod pull;
mod reference;
mod store;
mod unpack;

pub use reference::ImageRef;
pub use store::{Image, ImageStore};

use std::path::PathBuf;

/// What can go wrong with images.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that is no image reference.
    #[error("invalid image name {name:?}: {why}")]
    InvalidName {
        /// As given.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was attempted, such as `write`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Content that is not what its descriptor says, or not what the format demands.
    #[error("{what} is not valid: {why}")]
    Invalid {
        /// Which file, blob or entry.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// A registry did not deliver.
    #[error("failed to pull and unpack image \"{reference}\": {why}")]
    Pull {
        /// The image asked for.
        reference: String,
        /// What the registry or the network said.
        why: String,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn invalid(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::Invalid { what: what.into(), why: why.to_string() }
    }
}

/// Result of image operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;
