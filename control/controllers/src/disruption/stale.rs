//! Takes the mark from pods that were about to be disrupted and were not.

use std::time::Duration;

use corten_api::api::core::v1::{Pod, PodCondition};
use corten_base::Timestamp;
use corten_client::{Informer, Key, Next};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::context::{Context, Error, or_gone};
use crate::pods::is_active;

/// So long after it was marked a pod may still be deleted.
const PATIENCE: Duration = Duration::from_secs(120);

/// The mark of a pod that should be about to go. A node's own mark stands: it may take any time to end a pod.
pub(super) fn mark(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.as_ref().filter(|_| is_active(pod))?.conditions.as_deref()?;
    let mark = conditions.iter().find(|own| own.type_ == "DisruptionTarget" && own.status == "True");
    mark.filter(|own| own.reason.as_deref() != Some("TerminationByKubelet"))
}

pub(super) async fn sync(cx: Context, pods: Informer<Pod>, key: Key) -> Result<Next, Error> {
    let Some(pod) = pods.by_key(&key) else { return Ok(Next::Wait) };
    let Some(mark) = mark(&pod) else { return Ok(Next::Wait) };
    let now = cx.config.clock.now();
    let since = mark.last_transition_time.as_ref().map_or(now, |time| time.0);
    let left = PATIENCE.saturating_sub(Duration::try_from(now.duration_since(since)).unwrap_or_default());
    if !left.is_zero() {
        return Ok(Next::After(left));
    }
    let at = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let condition = json!({"type": "DisruptionTarget", "status": "False", "lastTransitionTime": at});
    let metadata = json!({"uid": pod.uid(), "resourceVersion": pod.resource_version()});
    let patch = Patch::Strategic(json!({"metadata": metadata, "status": {"conditions": [condition]}}));
    let api: Api<Pod> = Api::namespaced(cx.client.clone(), &key.namespace);
    or_gone(api.patch_status(&key.name, &PatchParams::default(), &patch).await)?;
    Ok(Next::Wait)
}
