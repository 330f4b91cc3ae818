//! From the volumes of a spec to what must be on disk.

use std::path::{Path, PathBuf};

use corten_api::api::core::v1::{Pod, ProjectedVolumeSource, Volume};
use corten_api::quantity::Quantity;
use corten_base::Timestamp;
use kube::Client;

use super::error::VolumeError;
use super::payload::{self, DEFAULT_MODE, Owner, Payload, Selection};
use super::tokens::Tokens;
use crate::facts::NodeFacts;
use crate::resources;
use crate::sources::Objects;

/// What a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// An empty folder of the pod's own.
    Scratch {
        /// Where.
        dir: PathBuf,
        /// In memory, with at most so many bytes.
        memory: Option<Option<i64>>,
    },
    /// A path of the node.
    Host {
        /// Which.
        path: PathBuf,
        /// What it must be.
        kind: String,
        /// No container of the pod may write to it.
        read_only: bool,
    },
    /// A folder or disk of the node that a claim is bound to.
    Local {
        /// Which.
        path: PathBuf,
        /// It is one of the folders that the agent itself keeps for claims, and makes when it is first used.
        own: bool,
        /// No container of the pod may write to it.
        read_only: bool,
    },
    /// Files that the agent writes and keeps current.
    Written {
        /// Where.
        dir: PathBuf,
    },
}

impl Plan {
    /// What a volume of a pod is to be.
    pub(super) fn of(volume: &Volume, pod: &Pod, pod_dir: &Path) -> Result<Self, VolumeError> {
        let place = |plugin: &str| pod_dir.join("volumes").join(format!("kubernetes.io~{plugin}")).join(&volume.name);
        let unsupported = |kind: &str| VolumeError::Unsupported { volume: volume.name.clone(), kind: kind.to_owned() };
        if let Some(source) = &volume.empty_dir {
            let memory = match source.medium.as_deref().unwrap_or_default() {
                "" => None,
                "Memory" => {
                    let limit =
                        source.size_limit.as_ref().and_then(|limit| Quantity::of(limit).ok()).map(Quantity::units);
                    // More than the pod may use would only get it killed.
                    let pod_limit = resources::pod(pod).memory_limit;
                    Some([limit, pod_limit].into_iter().flatten().filter(|bytes| *bytes > 0).min())
                }
                medium => return Err(unsupported(&format!("emptyDir (medium {medium})"))),
            };
            return Ok(Self::Scratch { dir: place("empty-dir"), memory });
        }
        if let Some(source) = &volume.host_path {
            let kind = source.type_.clone().unwrap_or_default();
            return Ok(Self::Host { path: PathBuf::from(&source.path), kind, read_only: false });
        }
        let plugin = if volume.config_map.is_some() {
            "configmap"
        } else if volume.secret.is_some() {
            "secret"
        } else if volume.downward_api.is_some() {
            "downward-api"
        } else if volume.projected.is_some() {
            "projected"
        } else {
            return Err(unsupported(&kind_of(volume)));
        };
        Ok(Self::Written { dir: place(plugin) })
    }
}

/// The name of the one field that is set beside `name`.
fn kind_of(volume: &Volume) -> String {
    let value = serde_json::to_value(volume).unwrap_or_default();
    let mut fields = value.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    fields.find(|name| *name != "name").unwrap_or("unknown").to_owned()
}

/// What files are rendered from.
pub(super) struct Given<'a> {
    pub(super) client: &'a Client,
    pub(super) pod: &'a Pod,
    pub(super) node: &'a NodeFacts,
    pub(super) objects: &'a Objects,
    pub(super) now: Timestamp,
}

/// The files of a volume.
pub(super) async fn files(volume: &Volume, given: &Given<'_>, tokens: &mut Tokens) -> Result<Payload, VolumeError> {
    let rendered = if let Some(source) = &volume.config_map {
        let selection = Selection {
            name: &source.name,
            items: source.items.as_deref(),
            mode: source.default_mode.unwrap_or(DEFAULT_MODE),
            optional: source.optional == Some(true),
        };
        payload::config_map(selection, given.objects)
    } else if let Some(source) = &volume.secret {
        let selection = Selection {
            name: source.secret_name.as_deref().unwrap_or_default(),
            items: source.items.as_deref(),
            mode: source.default_mode.unwrap_or(DEFAULT_MODE),
            optional: source.optional == Some(true),
        };
        payload::secret(selection, given.objects)
    } else if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        payload::downward(source.items.as_deref().unwrap_or_default(), mode, given.pod, &given.node.allocatable)
    } else if let Some(source) = &volume.projected {
        projected(&volume.name, source, given, tokens).await
    } else {
        Ok(Payload::new())
    };
    rendered.map_err(|message| VolumeError::SetUp { volume: volume.name.clone(), message })
}

async fn projected(
    volume: &str,
    source: &ProjectedVolumeSource,
    given: &Given<'_>,
    tokens: &mut Tokens,
) -> Result<Payload, String> {
    let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
    let mut all = Payload::new();
    for (index, part) in source.sources.iter().flatten().enumerate() {
        let files = if let Some(part) = &part.config_map {
            let optional = part.optional == Some(true);
            let selection = Selection { name: &part.name, items: part.items.as_deref(), mode, optional };
            payload::config_map(selection, given.objects)?
        } else if let Some(part) = &part.secret {
            let optional = part.optional == Some(true);
            let selection = Selection { name: &part.name, items: part.items.as_deref(), mode, optional };
            payload::secret(selection, given.objects)?
        } else if let Some(part) = &part.downward_api {
            let items = part.items.as_deref().unwrap_or_default();
            payload::downward(items, mode, given.pod, &given.node.allocatable)?
        } else if let Some(part) = &part.service_account_token {
            tokens.refresh(given.client, given.pod, (volume.to_owned(), index), part, given.now).await?;
            let token = tokens.get(volume, index).map(|token| token.text.as_str()).unwrap_or_default();
            payload::token(&part.path, token, mode, Owner::of(given.pod))?
        } else if part.cluster_trust_bundle.is_some() {
            return Err("clusterTrustBundle sources are not supported yet".to_owned());
        } else {
            return Err(format!("source {index} is of a kind that is not supported yet"));
        };
        all.extend(files);
    }
    Ok(all)
}
