//! Removes pods that have to make room.

use corten_api::api::core::v1::Pod;
use corten_client::reference;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;

use super::Writer;
use crate::model::PodInfo;

impl Writer {
    /// Removes the victims; whether all of them are on their way.
    pub(super) async fn evict(&self, pod: &PodInfo, scheduler: &str, victims: &[std::sync::Arc<PodInfo>]) -> bool {
        let each = victims.iter().map(|victim| self.evict_one(pod, scheduler, victim));
        let mut all = true;
        for result in futures::future::join_all(each).await {
            if let Err(error) = result {
                tracing::warn!(pod = %pod.key, error = corten_base::chain(&error), "a pod could not be preempted");
                all = false;
            }
        }
        all
    }

    async fn evict_one(&self, pod: &PodInfo, scheduler: &str, victim: &PodInfo) -> Result<(), kube::Error> {
        if victim.deleting {
            return Ok(());
        }
        let key = &victim.key;
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
            "message": format!("{scheduler}: preempting to accommodate a higher priority pod"),
            "lastProbeTime": null, "lastTransitionTime": self.seconds(),
        });
        let patch = Patch::Strategic(json!({"metadata": {"uid": victim.uid}, "status": {"conditions": [condition]}}));
        let marked = api.patch_status(&key.name, &PatchParams::default(), &patch).await;
        if is_gone(&marked) {
            return Ok(());
        }
        marked?;
        let preconditions = Preconditions { uid: Some(victim.uid.clone()), resource_version: None };
        let how = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let deleted = api.delete(&key.name, &how).await;
        if is_gone(&deleted) {
            return Ok(());
        }
        deleted?;
        if let Some((object, recorder)) = self.feed.pods.by_key(key).zip(self.recorders.get(scheduler)) {
            let message = format!("Preempted by pod {} on node {}", pod.uid, victim.node);
            recorder.normal(&self.clock, reference(&*object), "Preempted", message);
        }
        Ok(())
    }
}

/// Whether it is gone, or another pod of that name has taken its place.
fn is_gone<T>(result: &Result<T, kube::Error>) -> bool {
    matches!(result, Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409)
}
