//! Reads images from a tar archive: an OCI layout or a docker-archive (`docker save`), gzipped or not.
//!
//! Every file of the archive goes to the content store as it passes, so nothing is unpacked under a name that
//! the archive chose; then `index.json` or `manifest.json` says which of them make an image. Blobs that turn out
//! to belong to no image are removed again.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use oci_spec::image::{ImageIndex, MediaType};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blobs::Written;
use crate::{Error, Image, ImageRef, ImageStore, Result, unpack};

/// Names that OCI layouts carry in a descriptor's annotations, the full one first.
const NAME_ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// What Docker called an index before OCI did.
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Files that only describe the archive; they belong to no image.
const INDEXES: [&str; 4] = ["index.json", "manifest.json", "oci-layout", "repositories"];

/// One image of a docker-archive's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The archive's files by name. Links (`docker save` of old) name another file.
#[derive(Default)]
struct Files {
    blobs: BTreeMap<String, Written>,
    links: BTreeMap<String, String>,
}

impl ImageStore {
    /// Imports every named image of an archive. Returns them with the names they got.
    pub fn import(&self, archive: &Path) -> Result<Vec<(ImageRef, Image)>> {
        let file = File::open(archive).map_err(Error::io("open", archive))?;
        // One at a time: one that fails takes away the blobs that it brought, which another may count on.
        let lock = self.root().join("import.lock");
        let lock = File::create(&lock).and_then(|file| file.lock().map(|()| file)).map_err(Error::io("lock", lock))?;
        let imported = self.import_locked(file, archive);
        drop(lock);
        imported
    }

    fn import_locked(&self, file: File, archive: &Path) -> Result<Vec<(ImageRef, Image)>> {
        let files = self.read_archive(file, archive)?;
        let imported = self.adopt_images(&files, archive);
        let unwanted = |name: &str| imported.is_err() || INDEXES.contains(&name);
        for (_, blob) in files.blobs.iter().filter(|(name, blob)| blob.new && unwanted(name)) {
            self.blobs.remove(&blob.digest);
        }
        imported
    }

    fn read_archive(&self, file: File, archive: &Path) -> Result<Files> {
        let what = || archive.display().to_string();
        let mut tar = tar::Archive::new(unpack::decompress(file).map_err(Error::io("read", archive))?);
        let mut files = Files::default();
        for entry in tar.entries().map_err(|error| Error::invalid(what(), error))? {
            let mut entry =
                entry.map_err(|error| Error::invalid(what(), format!("it is no complete tar archive: {error}")))?;
            let path = entry.path().map_err(|error| Error::invalid(what(), error))?.into_owned();
            let name = normal(&path.to_string_lossy());
            let kind = entry.header().entry_type();
            if kind.is_file() {
                files.blobs.insert(name, self.blobs.write(&mut entry)?);
            } else if (kind.is_symlink() || kind.is_hard_link())
                && let Ok(Some(target)) = entry.link_name()
            {
                let base = if kind.is_symlink() { path.parent().unwrap_or(Path::new("")) } else { Path::new("") };
                files.links.insert(name, normal(&base.join(target).to_string_lossy()));
            }
        }
        Ok(files)
    }

    fn adopt_images(&self, files: &Files, archive: &Path) -> Result<Vec<(ImageRef, Image)>> {
        let manifests = if let Some(index) = files.blobs.get("index.json") {
            self.oci_manifests(files, &index.digest)?
        } else if let Some(list) = files.blobs.get("manifest.json") {
            self.docker_manifests(files, &list.digest)?
        } else {
            let why = "it has neither index.json (OCI layout) nor manifest.json (docker-archive)";
            return Err(Error::invalid(archive.display().to_string(), why));
        };
        if manifests.is_empty() {
            return Err(Error::invalid(archive.display().to_string(), "it holds no image with a name"));
        }
        manifests.into_iter().map(|(name, digest)| self.tag(&name, &digest).map(|image| (name, image))).collect()
    }

    /// (name, manifest digest) of an OCI layout's images for this machine's platform.
    fn oci_manifests(&self, files: &Files, index: &str) -> Result<Vec<(ImageRef, String)>> {
        let parse = |digest: &str| {
            ImageIndex::from_reader(self.blobs.read(digest)?.as_slice())
                .map_err(|error| Error::invalid("index.json", error))
        };
        // `docker save` writes both forms; its manifest.json knows the tags in full.
        let docker_tags = match files.blobs.get("manifest.json") {
            Some(list) => {
                self.docker_images(&list.digest)?.into_iter().filter_map(|image| image.repo_tags).flatten().collect()
            }
            None => Vec::new(),
        };
        let mut found = Vec::new();
        for descriptor in parse(index)?.manifests() {
            let digest = descriptor.digest().to_string();
            let name = descriptor
                .annotations()
                .as_ref()
                .and_then(|all| NAME_ANNOTATIONS.iter().find_map(|key| all.get(*key)))
                .map(|name| match docker_tags.as_slice() {
                    // A bare tag is all that `ref.name` need be; the tags of manifest.json complete it.
                    [only] if !name.contains(['/', ':']) => only.clone(),
                    _ => name.clone(),
                });
            let Some(name) = name.or_else(|| docker_tags.first().cloned()) else { continue };
            let is_index = match descriptor.media_type() {
                MediaType::ImageIndex => true,
                MediaType::Other(kind) => kind == DOCKER_INDEX,
                _ => false,
            };
            let digest = if is_index {
                let inner = parse(&digest)?;
                let manifest = inner.manifests().iter().find(|inner| {
                    inner.platform().as_ref().is_none_or(|platform| {
                        platform.os().to_string() == "linux" && platform.architecture().to_string() == architecture()
                    })
                });
                match manifest {
                    Some(manifest) => manifest.digest().to_string(),
                    None => {
                        return Err(Error::invalid(name, format!("it has no manifest for linux/{}", architecture())));
                    }
                }
            } else {
                digest
            };
            self.require_blobs(&name, &digest)?;
            found.push((name.parse()?, digest));
        }
        Ok(found)
    }

    fn docker_images(&self, list: &str) -> Result<Vec<DockerImage>> {
        serde_json::from_slice(&self.blobs.read(list)?).map_err(|error| Error::invalid("manifest.json", error))
    }

    /// (name, manifest digest) of a docker-archive's images; their manifests are made here.
    fn docker_manifests(&self, files: &Files, list: &str) -> Result<Vec<(ImageRef, String)>> {
        let mut found = Vec::new();
        for image in self.docker_images(list)? {
            let config = files.get(&image.config)?;
            let mut layers = Vec::new();
            for name in &image.layers {
                let layer = files.get(name)?;
                let media_type =
                    unpack::media_type(self.blobs.open_blob(&layer.digest)?).map_err(Error::io("read", name))?;
                layers.push(descriptor(media_type, layer));
            }
            let manifest = json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": descriptor("application/vnd.oci.image.config.v1+json", config),
                "layers": layers,
            });
            let written = self.blobs.write(&mut manifest.to_string().as_bytes())?;
            for tag in image.repo_tags.unwrap_or_default() {
                found.push((tag.parse()?, written.digest.clone()));
            }
        }
        Ok(found)
    }

    /// Everything that a manifest names must be here, with the size it says.
    fn require_blobs(&self, name: &str, manifest: &str) -> Result<()> {
        if !self.blobs.contains(manifest) {
            return Err(Error::invalid(name, format!("the archive lacks its manifest {manifest}")));
        }
        let value: Value =
            serde_json::from_slice(&self.blobs.read(manifest)?).map_err(|error| Error::invalid(name, error))?;
        let layers = value["layers"].as_array().cloned().unwrap_or_default();
        for blob in layers.iter().chain([&value["config"]]) {
            let digest = blob["digest"].as_str().unwrap_or_default();
            let size = self.blobs.path(digest)?.metadata().map(|meta| meta.len());
            match (size, blob["size"].as_u64()) {
                (Ok(have), Some(want)) if have == want => {}
                (Ok(have), want) => {
                    return Err(Error::invalid(name, format!("blob {digest} has {have} bytes, not {want:?}")));
                }
                (Err(_), _) => return Err(Error::invalid(name, format!("the archive lacks blob {digest}"))),
            }
        }
        Ok(())
    }
}

impl Files {
    fn get(&self, name: &str) -> Result<&Written> {
        let name = normal(name);
        let target = self.links.get(&name).unwrap_or(&name);
        self.blobs.get(target).ok_or_else(|| Error::invalid("manifest.json", format!("the archive lacks {name}")))
    }
}

fn descriptor(media_type: &str, blob: &Written) -> Value {
    json!({"mediaType": media_type, "digest": blob.digest, "size": blob.size})
}

/// This machine's architecture in OCI's (Go's) words.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A path of the archive without `.`, `..` and leading slashes: only a key here, never a place on disk.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use sha2::{Digest, Sha256};

    use super::*;

    fn tar_of(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o755);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_cksum();
            builder.append_data(&mut header, name, bytes.as_slice()).expect("an entry");
        }
        builder.into_inner().expect("a tar")
    }

    fn digest(bytes: &[u8]) -> String {
        hex::encode(Sha256::digest(bytes))
    }

    /// (layer, config) of a one-file image.
    fn parts() -> (Vec<u8>, Vec<u8>) {
        let layer = tar_of(&[("hello", b"world".to_vec())]);
        let config = json!({
            "architecture": architecture(), "os": "linux",
            "config": {"Entrypoint": ["/hello"], "Env": ["A=b"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))]},
        });
        (layer, config.to_string().into_bytes())
    }

    fn docker_archive() -> Vec<u8> {
        let (layer, config) = parts();
        let manifest = json!([{"Config": "config.json", "RepoTags": ["localhost/hello:1"], "Layers": ["l/layer.tar"]}]);
        tar_of(&[("config.json", config), ("l/layer.tar", layer), ("manifest.json", manifest.to_string().into_bytes())])
    }

    fn oci_archive(broken: bool) -> Vec<u8> {
        let (layer, config) = parts();
        let blob = |bytes: &[u8]| format!("blobs/sha256/{}", digest(bytes));
        let part = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": format!("sha256:{}", digest(bytes)), "size": bytes.len()});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": part("application/vnd.oci.image.config.v1+json", &config),
            "layers": [part("application/vnd.oci.image.layer.v1.tar", &layer)],
        })
        .to_string()
        .into_bytes();
        let mut descriptor = part("application/vnd.oci.image.manifest.v1+json", &manifest);
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": "localhost/hello:2"});
        let index = json!({"schemaVersion": 2, "manifests": [descriptor]}).to_string().into_bytes();
        let layer = if broken { b"not the layer".to_vec() } else { layer };
        tar_of(&[
            ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            (&blob(&parts().0), layer.clone()),
            (&blob(&config), config.clone()),
            (&blob(&manifest), manifest.clone()),
            ("index.json", index),
        ])
    }

    fn import(bytes: &[u8]) -> (tempfile::TempDir, ImageStore, Result<Vec<(ImageRef, Image)>>) {
        let folder = tempfile::tempdir().expect("a folder");
        let archive: PathBuf = folder.path().join("image.tar");
        fs::write(&archive, bytes).expect("written");
        let store = ImageStore::open(folder.path().join("store")).expect("a store");
        let imported = store.import(&archive);
        (folder, store, imported)
    }

    #[test]
    fn both_archive_formats_give_the_same_image() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let (_one, docker_store, docker) = import(&docker_archive());
        let (_two, _, oci) = import(&oci_archive(false));
        let (docker, oci) = (docker.expect("imported"), oci.expect("imported"));
        assert_eq!(docker[0].0.to_string(), "localhost/hello:1");
        assert_eq!(oci[0].0.to_string(), "localhost/hello:2");
        assert_eq!(docker[0].1, oci[0].1);
        assert_eq!(docker[0].1.entrypoint, ["/hello"]);

        let found = docker_store.find("localhost/hello:1").expect("readable").expect("there");
        let layers = docker_store.layers(&found.id).expect("unpacked");
        assert_eq!(fs::read_to_string(layers[0].join("hello")).expect("a file"), "world");
        assert_eq!(docker_store.find("localhost/hello:9").expect("readable"), None);
    }

    #[test]
    fn a_blob_that_is_not_what_its_name_says_is_refused_and_leaves_nothing() {
        let (folder, store, imported) = import(&oci_archive(true));
        let error = imported.expect_err("refused").to_string();
        assert!(error.contains("the archive lacks blob sha256:"), "{error}");
        assert_eq!(store.list().expect("readable"), []);
        assert_eq!(fs::read_dir(folder.path().join("store/blobs/sha256")).expect("a folder").count(), 0);
    }

    #[test]
    fn imports_at_once_all_succeed() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let archives = [docker_archive(), oci_archive(false), oci_archive(true), docker_archive()];
        let paths: Vec<PathBuf> =
            (0..archives.len()).map(|number| folder.path().join(format!("{number}.tar"))).collect();
        for (path, bytes) in paths.iter().zip(&archives) {
            fs::write(path, bytes).expect("written");
        }
        let store = ImageStore::open(folder.path().join("store")).expect("a store");
        let imported: Vec<bool> = std::thread::scope(|scope| {
            let tasks: Vec<_> = paths.iter().map(|path| scope.spawn(|| store.import(path).is_ok())).collect();
            tasks.into_iter().map(|task| task.join().expect("no panic")).collect()
        });
        assert_eq!((imported[0], imported[1], imported[3]), (true, true, true));
        for image in store.list().expect("readable") {
            let layers = store.layers(&image.id).expect("unpacked");
            assert_eq!(fs::read_to_string(layers[0].join("hello")).expect("a file"), "world");
        }
    }

    #[test]
    fn junk_is_refused_with_its_name() {
        for junk in [b"junk".to_vec(), Vec::new(), tar_of(&[("a", Vec::new())]), vec![0x1f, 0x8b, 1, 2]] {
            let (_folder, _, imported) = import(&junk);
            let error = imported.expect_err("refused").to_string();
            assert!(error.contains("image.tar"), "{error}");
        }
    }
}
