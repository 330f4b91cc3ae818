//! Names, what they stand for, and the layers to mount for them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use oci_spec::image::{ImageConfiguration, ImageManifest};
use serde::{Deserialize, Serialize};

use crate::blobs::{Blobs, temporary};
use crate::{Error, ImageRef, Result, unpack};

/// An image and what it says about running it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Digest of its config: the image id.
    pub id: String,
    /// Names with tags that stand for it.
    pub tags: Vec<String>,
    /// Names with digests of its manifests.
    pub digests: Vec<String>,
    /// Bytes of its blobs.
    pub size: u64,
    /// Default program.
    pub entrypoint: Vec<String>,
    /// Default arguments.
    pub cmd: Vec<String>,
    /// Environment, `NAME=value`.
    pub env: Vec<String>,
    /// Working directory.
    pub working_dir: String,
    /// `user[:group]`.
    pub user: String,
    /// Signal that asks it to stop; empty for the default.
    pub stop_signal: String,
}

/// What a reference file holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Target {
    name: String,
    manifest: String,
    config: String,
}

/// The images of a machine. Clones are handles on the same folder.
#[derive(Clone, Debug)]
pub struct ImageStore {
    root: PathBuf,
    pub(crate) blobs: Blobs,
}

impl ImageStore {
    /// Opens the store in `root`, making it if it is not there.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let blobs = Blobs::open(&root)?;
        for folder in ["refs", "layers"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(Error::io("create", path))?;
        }
        // Layers hold set-user-id programs and device nodes, which are not for users of the machine.
        let layers = root.join("layers");
        fs::set_permissions(&layers, fs::Permissions::from_mode(0o700)).map_err(Error::io("chmod", layers))?;
        Ok(Self { root, blobs })
    }

    /// The image that a name, or an image id, stands for.
    pub fn find(&self, name: &str) -> Result<Option<Image>> {
        if name.starts_with("sha256:") {
            return Ok(self.list()?.into_iter().find(|image| image.id == name));
        }
        let reference: ImageRef = name.parse()?;
        let wanted = self.targets()?.into_iter().find(|target| match reference.digest() {
            Some(digest) => target.manifest == digest,
            None => target.name == reference.to_string(),
        });
        let Some(target) = wanted else { return Ok(None) };
        Ok(self.list()?.into_iter().find(|image| image.id == target.config))
    }

    /// All images, by id.
    pub fn list(&self) -> Result<Vec<Image>> {
        let mut images: BTreeMap<String, Image> = BTreeMap::new();
        for target in self.targets()? {
            let Ok(image) = self.describe(&target) else {
                tracing::warn!(name = target.name, "an image in the store is incomplete; pull or import it again");
                continue;
            };
            let known = images.entry(target.config.clone()).or_insert(image);
            if let Ok(reference) = target.name.parse::<ImageRef>() {
                known.digests.push(format!("{}@{}", reference.repository(), target.manifest));
            }
            known.tags.push(target.name);
        }
        Ok(images.into_values().collect())
    }

    /// Folders with the image's files, topmost layer first: overlayfs' lower directories. Unpacks what is not unpacked yet.
    pub fn layers(&self, id: &str) -> Result<Vec<PathBuf>> {
        let target = self
            .targets()?
            .into_iter()
            .find(|target| target.config == id)
            .ok_or_else(|| Error::invalid(format!("image {id}"), "it is not in the store"))?;
        let manifest = self.manifest(&target.manifest)?;
        let config = self.config(id)?;
        let diff_ids = config.rootfs().diff_ids();
        if diff_ids.len() != manifest.layers().len() {
            let why = format!("{} layers but {} diff ids", manifest.layers().len(), diff_ids.len());
            return Err(Error::invalid(format!("image {id}"), why));
        }
        let mut folders = Vec::with_capacity(diff_ids.len());
        for (layer, diff_id) in manifest.layers().iter().zip(diff_ids) {
            folders.push(self.layer(layer.digest().as_ref(), diff_id)?);
        }
        folders.reverse();
        Ok(folders)
    }

    /// Lets `name` stand for a manifest whose blobs are all here, and unpacks it.
    pub(crate) fn tag(&self, name: &ImageRef, manifest: &str) -> Result<Image> {
        let config = self.manifest(manifest)?.config().digest().to_string();
        let target = Target { name: name.to_string(), manifest: manifest.to_owned(), config };
        let image = self.describe(&target)?;
        let path = self.root.join("refs").join(escape(&target.name));
        let temporary = temporary(&self.root);
        let bytes = serde_json::to_vec(&target).map_err(|error| Error::invalid(target.name.clone(), error))?;
        fs::write(&temporary, bytes).map_err(Error::io("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(Error::io("rename to", &path))?;
        self.layers(&target.config)?;
        Ok(image)
    }

    fn layer(&self, blob: &str, diff_id: &str) -> Result<PathBuf> {
        let hex = diff_id
            .strip_prefix("sha256:")
            .filter(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .ok_or_else(|| Error::invalid(format!("diff id {diff_id:?}"), "only sha256 is supported"))?;
        let folder = self.root.join("layers").join(hex);
        if folder.exists() {
            return Ok(folder);
        }
        let staging = temporary(&self.root);
        fs::create_dir(&staging).map_err(Error::io("create", &staging))?;
        let unpacked = unpack::layer(self.blobs.open_blob(blob)?, &staging).and_then(|found| {
            let wanted = format!("sha256:{hex}");
            if found == wanted {
                Ok(())
            } else {
                Err(Error::invalid(
                    format!("layer {blob}"),
                    format!("its content is {found}, the config says {wanted}"),
                ))
            }
        });
        match unpacked {
            // Another process may have been faster: its folder is as good.
            Ok(()) if fs::rename(&staging, &folder).is_ok() || folder.exists() => {
                let _ = fs::remove_dir_all(&staging);
                Ok(folder)
            }
            Ok(()) => Err(Error::invalid(format!("layer {blob}"), "its folder cannot be moved into place")),
            Err(error) => {
                let _ = fs::remove_dir_all(&staging);
                Err(error)
            }
        }
    }

    fn targets(&self) -> Result<Vec<Target>> {
        let folder = self.root.join("refs");
        let mut targets = Vec::new();
        for entry in fs::read_dir(&folder).map_err(Error::io("read", &folder))? {
            let path = entry.map_err(Error::io("read", &folder))?.path();
            let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
            match serde_json::from_slice(&bytes) {
                Ok(target) => targets.push(target),
                Err(error) => tracing::warn!(path = %path.display(), %error, "skipping a damaged image reference"),
            }
        }
        targets.sort_by(|a: &Target, b| a.name.cmp(&b.name));
        Ok(targets)
    }

    fn manifest(&self, digest: &str) -> Result<ImageManifest> {
        ImageManifest::from_reader(self.blobs.read(digest)?.as_slice())
            .map_err(|error| Error::invalid(format!("manifest {digest}"), error))
    }

    fn config(&self, digest: &str) -> Result<ImageConfiguration> {
        ImageConfiguration::from_reader(self.blobs.read(digest)?.as_slice())
            .map_err(|error| Error::invalid(format!("image config {digest}"), error))
    }

    fn describe(&self, target: &Target) -> Result<Image> {
        let manifest = self.manifest(&target.manifest)?;
        let config = self.config(&target.config)?;
        let size = manifest.layers().iter().map(|layer| layer.size()).sum::<u64>() + manifest.config().size();
        let run = config.config().clone().unwrap_or_default();
        Ok(Image {
            id: target.config.clone(),
            tags: Vec::new(),
            digests: Vec::new(),
            size,
            entrypoint: run.entrypoint().clone().unwrap_or_default(),
            cmd: run.cmd().clone().unwrap_or_default(),
            env: run.env().clone().unwrap_or_default(),
            working_dir: run.working_dir().clone().unwrap_or_default(),
            user: run.user().clone().unwrap_or_default(),
            stop_signal: run.stop_signal().clone().unwrap_or_default(),
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}

/// A file name for an image name.
fn escape(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2F")
}
