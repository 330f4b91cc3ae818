//! Pulls images from registries.
//!
//! The transport is `oci-client`'s; sizes and digests are checked here, before a blob gets its name.

use std::fs;
use std::time::Duration;

use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::manifest::{OciDescriptor, OciImageManifest};
use oci_client::secrets::RegistryAuth;
use tokio::fs::File;

use crate::blobs::temporary;
use crate::{Error, Image, ImageRef, ImageStore, Result};

impl ImageStore {
    /// Fetches an image and unpacks it. The first of `credentials` (user, password) is used, if any.
    pub async fn pull(&self, reference: &ImageRef, credentials: &[(String, String)]) -> Result<Image> {
        let failed = |why: String| Error::Pull { reference: reference.to_string(), why };
        // The transport refuses to choose; whoever chose before us stays chosen.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let registry = reference.inner().resolve_registry().to_owned();
        let client = Client::new(ClientConfig {
            // A registry on this machine speaks plain HTTP, as Docker assumes too.
            protocol: ClientProtocol::HttpsExcept(vec!["localhost".into(), "127.0.0.1".into(), local_name(&registry)]),
            connect_timeout: Some(Duration::from_secs(15)),
            read_timeout: Some(Duration::from_secs(60)),
            ..ClientConfig::default()
        });
        let auth = match credentials.first() {
            Some((user, password)) => RegistryAuth::Basic(user.clone(), password.clone()),
            None => RegistryAuth::Anonymous,
        };
        let (manifest, digest) = client
            .pull_image_manifest(reference.inner(), &auth)
            .await
            .map_err(|error| failed(format!("failed to resolve reference \"{reference}\": {}", chain(&error))))?;
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            self.fetch(&client, reference, blob).await?;
        }
        let bytes = manifest_bytes(&client, reference, &auth, &manifest, &digest).await.map_err(failed)?;
        let (store, name) = (self.clone(), reference.clone());
        tokio::task::spawn_blocking(move || {
            let written = store.blobs.write(&mut bytes.as_slice())?;
            store.tag(&name, &written.digest)
        })
        .await
        .map_err(|error| Error::Pull { reference: reference.to_string(), why: error.to_string() })?
    }

    async fn fetch(&self, client: &Client, reference: &ImageRef, blob: &OciDescriptor) -> Result<()> {
        if self.blobs.contains(&blob.digest) {
            return Ok(());
        }
        let failed = |why: String| Error::Pull { reference: reference.to_string(), why };
        let path = temporary(self.root());
        let file = File::create(&path).await.map_err(Error::io("create", &path))?;
        let pulled = client.pull_blob(reference.inner(), blob, file).await;
        let result =
            pulled.map_err(|error| failed(format!("blob {}: {}", blob.digest, chain(&error)))).and_then(|()| {
                let have = fs::metadata(&path).map_err(Error::io("read", &path))?.len();
                if u64::try_from(blob.size) == Ok(have) {
                    self.blobs.adopt(&path, &blob.digest).map(|_| ())
                } else {
                    Err(failed(format!("blob {} has {have} bytes, its manifest says {}", blob.digest, blob.size)))
                }
            });
        if result.is_err() {
            let _ = fs::remove_file(&path);
        }
        result
    }
}

/// The manifest as the registry sent it, so that its digest stays what it was.
async fn manifest_bytes(
    client: &Client,
    reference: &ImageRef,
    auth: &RegistryAuth,
    manifest: &OciImageManifest,
    digest: &str,
) -> Result<Vec<u8>, String> {
    let accepted =
        ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
    let exact = reference.inner().clone_with_digest(digest.to_owned());
    let (raw, _) = client.pull_manifest_raw(&exact, auth, &accepted).await.map_err(|error| chain(&error))?;
    let parsed: OciImageManifest = serde_json::from_slice(&raw).map_err(|error| error.to_string())?;
    if parsed.config.digest == manifest.config.digest {
        Ok(raw.to_vec())
    } else {
        Err("its manifest changed while it was pulled".to_owned())
    }
}

/// The registry itself, if its name says that it is on this machine.
fn local_name(registry: &str) -> String {
    let host = registry.split(':').next().unwrap_or_default();
    if host == "localhost" || host.starts_with("127.") { registry.to_owned() } else { "localhost".to_owned() }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
