//! Carries out a placement: volumes first, then the binding.

use std::time::Duration;

use corten_api::api::core::v1::{Binding, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod};
use corten_api::meta::ObjectMeta;
use corten_client::{Key, Writes, reference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::Writer;
use crate::cache::{ClaimInfo, SELECTED_NODE, VolumeInfo};
use crate::core::Placement;
use crate::model::NodeFacts;
use crate::plugins::ClaimPlan;

/// How long volumes may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Why a placement was not carried out.
type Failure = String;

fn failure(error: &kube::Error) -> Failure {
    corten_base::chain(error)
}

impl Writer {
    /// Gives the pod its node; whether it worked.
    pub(super) async fn bind(&self, placement: &Placement) -> bool {
        let pod = &placement.pod;
        let result = match self.provide(placement).await {
            Ok(()) => self.post(placement).await,
            Err(failure) => Err(failure),
        };
        let object = self.feed.pods.by_key(&pod.key).map(|object| reference(&*object));
        let recorder = self.recorders.get(&placement.scheduler);
        match result {
            Ok(()) => {
                if let Some((object, recorder)) = object.zip(recorder) {
                    let message = format!("Successfully assigned {} to {}", pod.key, placement.node);
                    recorder.normal(&self.clock, object, "Scheduled", message);
                }
                true
            }
            Err(error) => {
                tracing::debug!(pod = %pod.key, node = %placement.node, error, "a pod was not bound");
                // A pod that is gone needs no explanation.
                if let Some((object, recorder)) = object.zip(recorder) {
                    recorder.warning(&self.clock, object, "FailedScheduling", format!("binding failed: {error}"));
                }
                false
            }
        }
    }

    async fn post(&self, placement: &Placement) -> Result<(), Failure> {
        let key = &placement.pod.key;
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(key.name.clone()),
                namespace: Some(key.namespace.clone()),
                uid: Some(placement.pod.uid.clone()),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(placement.node.to_string()),
                ..ObjectReference::default()
            },
        };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let bound: Result<serde_json::Value, kube::Error> =
            api.create_subresource("binding", &key.name, &PostParams::default(), &binding).await;
        bound.map(drop).map_err(|error| failure(&error))
    }

    /// Has the pod's claims get their volumes.
    async fn provide(&self, placement: &Placement) -> Result<(), Failure> {
        if placement.claims.is_empty() {
            return Ok(());
        }
        let mut writes = Writes::default();
        for plan in &placement.claims {
            match plan {
                ClaimPlan::Bind { claim, uid, volume } => {
                    let volume = self.reserve(claim, uid, volume).await?;
                    writes.note(&self.feed.volumes, &volume);
                }
                ClaimPlan::Provision { claim } => {
                    let patch = json!({"metadata": {"annotations": {SELECTED_NODE: &*placement.node}}});
                    let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &claim.namespace);
                    let patched = api.patch(&claim.name, &PatchParams::default(), &Patch::Merge(patch)).await;
                    writes.note(&self.feed.claims, &patched.map_err(|error| failure(&error))?);
                }
            }
        }
        writes.settle().await;
        let mut changes = self.feed.watch_claims();
        let all_bound = async {
            loop {
                changes.mark_unchanged();
                if self.is_provided(placement)? {
                    return Ok(());
                }
                if changes.changed().await.is_err() {
                    return Err("claims are no longer watched".to_owned());
                }
            }
        };
        match tokio::time::timeout(PATIENCE, all_bound).await {
            Ok(result) => result,
            Err(_) => Err("timed out waiting for volumes to be bound".to_owned()),
        }
    }

    /// Keeps a volume for a claim; the binder does the rest.
    async fn reserve(&self, claim: &Key, uid: &str, volume: &str) -> Result<PersistentVolume, Failure> {
        let known = self.feed.volumes.get("", volume).ok_or_else(|| format!("volume {volume} is gone"))?;
        let patch = json!({
            // Nobody else may have taken it since.
            "metadata": {
                "resourceVersion": known.resource_version(),
                "annotations": {"pv.kubernetes.io/bound-by-controller": "yes"},
            },
            "spec": {"claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": claim.namespace, "name": claim.name, "uid": uid,
            }},
        });
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        let patched = api.patch(volume, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.map_err(|error| failure(&error))
    }

    /// Whether all claims have volumes that the node reaches.
    fn is_provided(&self, placement: &Placement) -> Result<bool, Failure> {
        for plan in &placement.claims {
            let (ClaimPlan::Bind { claim: key, .. } | ClaimPlan::Provision { claim: key }) = plan;
            let claim = self.feed.claims.by_key(key).map(|claim| ClaimInfo::of(&claim));
            let claim = claim.ok_or_else(|| format!("claim {key} is gone"))?;
            if claim.bound {
                let volume = self.feed.volumes.get("", &claim.volume).map(|volume| VolumeInfo::of(&volume));
                // The cache of volumes may lag behind that of claims: then the claim's next change is too late to wait for.
                let nodes = volume.and_then(|volume| volume.nodes);
                let node = self.feed.nodes.get("", &placement.node).map(|node| NodeFacts::of(&node));
                if let Some((nodes, node)) = nodes.zip(node)
                    && !nodes.matches(&node)
                {
                    return Err(format!("volume {} of claim {key} is out of the node's reach", claim.volume));
                }
                continue;
            }
            // The provisioner gave up on this node.
            let withdrawn =
                matches!(plan, ClaimPlan::Provision { .. }) && claim.selected_node.as_deref() != Some(&*placement.node);
            if withdrawn {
                return Err(format!("no volume could be provisioned for claim {key} near this node"));
            }
            return Ok(false);
        }
        Ok(true)
    }
}
