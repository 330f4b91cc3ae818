//! Removes the oldest pods that have ended, where there are too many of them.
//!
//! Behaviour: terminated pods in pkg/controller/podgc of Kubernetes v1.36.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use corten_api::api::core::v1::Pod;
use corten_client::{Informer, Key, Next};
use kube::ResourceExt;

use crate::context::{Context, Error};
use crate::lost_pods::end;
use crate::pods::has_ended;

/// So many are kept.
const KEPT: usize = 12_500;
/// Between the first that is too many and the removal.
const PACE: Duration = Duration::from_secs(20);

pub(crate) async fn run(cx: Context) {
    let pods = cx.informers.of::<Pod>();
    let (queue, count) = (cx.queue.clone(), AtomicUsize::new(0));
    pods.on_change(move |old, new| match (old.is_some_and(has_ended), new.is_some_and(has_ended)) {
        (false, true) if count.fetch_add(1, Ordering::Relaxed) >= KEPT => queue.add_after(Key::default(), PACE),
        (true, false) => drop(count.fetch_sub(1, Ordering::Relaxed)),
        _ => {}
    });
    pods.synced().await;
    cx.work(1, move |cx, _| sync(cx, pods.clone())).await;
}

async fn sync(cx: Context, pods: Informer<Pod>) -> Result<Next, Error> {
    for pod in surplus(pods.list(), KEPT) {
        end(&cx, &pod).await?;
    }
    Ok(Next::Wait)
}

/// Those that go: evicted ones first, then the oldest.
fn surplus(pods: Vec<Arc<Pod>>, kept: usize) -> Vec<Arc<Pod>> {
    let gone = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
    let mut ended: Vec<Arc<Pod>> = pods.into_iter().filter(|pod| has_ended(pod) && !gone(pod)).collect();
    let surplus = ended.len().saturating_sub(kept);
    ended.sort_by_cached_key(|pod| {
        let evicted = pod.status.as_ref().and_then(|status| status.reason.as_deref()) == Some("Evicted");
        (!evicted, pod.metadata.creation_timestamp.clone(), pod.name_any())
    });
    ended.truncate(surplus);
    ended
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn evicted_pods_go_first_then_the_oldest() {
        let pod = |name: &str, phase: &str, reason: &str, second: u8| {
            let created = format!("2026-01-01T00:00:{second:02}Z");
            let object = json!({"metadata": {"name": name, "creationTimestamp": created}, "status": {"phase": phase, "reason": reason}});
            Arc::new(serde_json::from_value::<Pod>(object).expect("a pod"))
        };
        let pods = vec![
            pod("old", "Succeeded", "", 1),
            pod("older", "Failed", "", 0),
            pod("evicted", "Failed", "Evicted", 9),
            pod("young", "Succeeded", "", 8),
            pod("runs", "Running", "", 0),
        ];
        let names = |kept| surplus(pods.clone(), kept).iter().map(|pod| pod.name_any()).collect::<Vec<_>>();
        assert_eq!(names(2), ["evicted", "older"]);
        assert_eq!(names(4), Vec::<String>::new());
    }
}
