//! How many pods the owners of pods want.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_api::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use corten_api::api::core::v1::{Pod, ReplicationController};
use corten_api::meta::{ObjectMeta, OwnerReference};
use corten_client::Informer;
use kube::core::{DynamicObject, GroupVersionKind};
use kube::{Api, ResourceExt};

use crate::context::{Context, Error};
use crate::owners;

/// Caches of the kinds that usually own pods.
#[derive(Clone)]
pub(super) struct Scales {
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    stateful_sets: Informer<StatefulSet>,
    replication_controllers: Informer<ReplicationController>,
}

/// Who wants pods, by UID, and how many.
type Scale = (String, i32);

fn uid(meta: &ObjectMeta) -> String {
    meta.uid.clone().unwrap_or_default()
}

impl Scales {
    pub(super) fn new(cx: &Context) -> Self {
        Self {
            deployments: cx.informers.of(),
            sets: cx.informers.of(),
            stateful_sets: cx.informers.of(),
            replication_controllers: cx.informers.of(),
        }
    }

    pub(super) async fn synced(&self) {
        tokio::join!(
            self.deployments.synced(),
            self.sets.synced(),
            self.stateful_sets.synced(),
            self.replication_controllers.synced(),
        );
    }

    /// How many pods the owners of these pods want in all; or why nobody knows. Pods without an owner count for none.
    pub(super) async fn of(&self, cx: &Context, pods: &[Arc<Pod>]) -> Result<Result<i32, String>, Error> {
        let mut found: BTreeMap<String, Option<Scale>> = BTreeMap::new();
        let mut total: BTreeMap<String, i32> = BTreeMap::new();
        for pod in pods {
            let Some(owner) = owners::controller(&pod.metadata) else { continue };
            let namespace = pod.namespace().unwrap_or_default();
            if !found.contains_key(&owner.uid) {
                let scale = match self.known(&namespace, owner) {
                    Some(scale) => Some(scale),
                    None => match asked(cx, &namespace, owner).await? {
                        Ok(scale) => scale,
                        Err(why) => return Ok(Err(why)),
                    },
                };
                found.insert(owner.uid.clone(), scale);
            }
            match found.get(&owner.uid) {
                Some(Some((uid, count))) => drop(total.insert(uid.clone(), *count)),
                _ => return Ok(Err(format!("found no controllers for pod {:?}", pod.name_any()))),
            }
        }
        Ok(Ok(total.into_values().fold(0, i32::saturating_add)))
    }

    fn known(&self, namespace: &str, owner: &OwnerReference) -> Option<Scale> {
        match owner.kind.as_str() {
            "ReplicaSet" => {
                let set = self.sets.get(namespace, &owner.name).filter(|own| uid(&own.metadata) == owner.uid)?;
                // A deployment speaks for all its sets.
                let above = owners::controller(&set.metadata).filter(|above| above.kind == "Deployment");
                let deployment = above.and_then(|above| self.deployments.get(namespace, &above.name));
                match deployment {
                    Some(own) => Some((uid(&own.metadata), own.spec.as_ref()?.replicas.unwrap_or(1))),
                    None => Some((owner.uid.clone(), set.spec.as_ref()?.replicas.unwrap_or(1))),
                }
            }
            "StatefulSet" => {
                let own = self.stateful_sets.get(namespace, &owner.name);
                let own = own.filter(|own| uid(&own.metadata) == owner.uid)?;
                Some((owner.uid.clone(), own.spec.as_ref()?.replicas.unwrap_or(1)))
            }
            "ReplicationController" => {
                let own = self.replication_controllers.get(namespace, &owner.name);
                let own = own.filter(|own| uid(&own.metadata) == owner.uid)?;
                Some((owner.uid.clone(), own.spec.as_ref()?.replicas.unwrap_or(1)))
            }
            _ => None,
        }
    }
}

/// Asks an owner of another kind for its scale. It may be gone, or have none.
async fn asked(cx: &Context, namespace: &str, owner: &OwnerReference) -> Result<Result<Option<Scale>, String>, Error> {
    let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
    let kind = GroupVersionKind::gvk(group, version, &owner.kind);
    let Ok((resource, capabilities)) = kube::discovery::pinned_kind(&cx.client, &kind).await else {
        return Ok(Ok(None));
    };
    if !capabilities.subresources.iter().any(|(own, _)| own.plural == "scale") {
        let name = if group.is_empty() { resource.plural } else { format!("{}.{group}", resource.plural) };
        return Ok(Err(format!("{name} does not implement the scale subresource")));
    }
    let api: Api<DynamicObject> = Api::namespaced_with(cx.client.clone(), namespace, &resource);
    match api.get_scale(&owner.name).await {
        Ok(scale) if scale.metadata.uid.as_ref() == Some(&owner.uid) => {
            let count = scale.spec.and_then(|spec| spec.replicas).unwrap_or(0);
            Ok(Ok(Some((owner.uid.clone(), count))))
        }
        Ok(_) => Ok(Ok(None)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Ok(None)),
        Err(error) => Err(error.into()),
    }
}
