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
        if is_gone(&api, victim, marked).await? {
            return Ok(());
        }
        let preconditions = Preconditions { uid: Some(victim.uid.clone()), resource_version: None };
        let how = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let deleted = api.delete(&key.name, &how).await;
        if is_gone(&api, victim, deleted).await? {
            return Ok(());
        }
        if let Some((object, recorder)) = self.feed.pods.by_key(key).zip(self.recorders.get(scheduler)) {
            let message = format!("Preempted by pod {} on node {}", pod.uid, victim.node);
            recorder.normal(&self.clock, reference(&*object), "Preempted", message);
        }
        Ok(())
    }
}

/// Whether a write failed because the victim is gone, or another pod of that name has taken its place. A conflict alone
/// does not say so: others may just have written to the pod as well.
async fn is_gone<T>(api: &Api<Pod>, victim: &PodInfo, result: Result<T, kube::Error>) -> Result<bool, kube::Error> {
    let Err(error) = result else { return Ok(false) };
    let code = if let kube::Error::Api(status) = &error { status.code } else { 0 };
    match code {
        404 => Ok(true),
        409 => {
            let found = api.get_opt(&victim.key.name).await?;
            if is_still(found.as_ref(), victim) { Err(error) } else { Ok(true) }
        }
        _ => Err(error),
    }
}

/// Whether what was found under the victim's name is the victim.
fn is_still(found: Option<&Pod>, victim: &PodInfo) -> bool {
    found.is_some_and(|pod| pod.metadata.uid.as_deref() == Some(victim.uid.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_means_gone_only_if_the_victim_is_not_there() {
        let victim = PodInfo { uid: "first".to_owned(), ..PodInfo::default() };
        let found = |uid: &str| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "one", "uid": uid}})).expect("a pod")
        };
        assert!(is_still(Some(&found("first")), &victim));
        assert!(!is_still(Some(&found("second")), &victim));
        assert!(!is_still(None, &victim));
    }
}
