//! Keeps `spec.replicas` pods alive for every ReplicaSet.
//!
//! Spec: <https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/>
//! Invariant: never touches a pod that another controller owns.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corten_api::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use corten_api::api::core::v1::{Pod, PodTemplateSpec};
use corten_api::meta::ObjectMeta;
use corten_api::selector::Labels;
use corten_base::Timestamp;
use corten_client::{Informer, Key, Next, Writes, reference};
use futures::future::join_all;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::context::{Context, Error, or_gone};
use crate::owners;
use crate::pods::{available_in, is_active, is_ready, phase, ready_since, restarts};

/// Most pods made or deleted at one go.
const BURST: usize = 500;

pub(crate) async fn run(cx: Context) {
    let (sets, pods) = (cx.informers.of::<ReplicaSet>(), cx.informers.of::<Pod>());
    let queue = cx.queue.clone();
    sets.on_change(move |old, new| queue.add(Key::of(new.or(old).unwrap_or(&ReplicaSet::default()))));
    let (queue, known) = (cx.queue.clone(), sets.clone());
    pods.on_change(move |old, new| {
        for pod in [old, new].into_iter().flatten() {
            let namespace = pod.namespace().unwrap_or_default();
            match owners::controller(&pod.metadata) {
                Some(owner) if owner.kind == "ReplicaSet" => queue.add(Key::new(namespace, &*owner.name)),
                Some(_) => {}
                // An orphan may be adopted.
                None => known.list_in(&namespace).iter().for_each(|set| queue.add(Key::of(&**set))),
            }
        }
    });
    tokio::join!(sets.synced(), pods.synced());
    cx.work(8, move |cx, key| sync(cx, sets.clone(), pods.clone(), key)).await;
}

/// What is to be done.
#[derive(Debug, Default)]
struct Plan {
    adopt: Vec<Arc<Pod>>,
    release: Vec<Arc<Pod>>,
    create: usize,
    delete: Vec<Arc<Pod>>,
    status: Option<ReplicaSetStatus>,
    /// When a pod will have been ready long enough.
    again: Option<Duration>,
}

fn plan(set: &ReplicaSet, pods: &[Arc<Pod>], now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let Some(spec) = &set.spec else { return plan };
    let Ok(selector) = Labels::from_selector(&spec.selector) else { return plan };
    let deleted = set.metadata.deletion_timestamp.is_some();
    let mut own = Vec::new();
    for pod in pods {
        let matches = selector.matches_optional(pod.metadata.labels.as_ref());
        let ours = owners::is_controlled_by(&pod.metadata, &set.metadata);
        match (ours, matches, owners::controller(&pod.metadata)) {
            (true, true, _) => own.push(pod),
            (true, false, _) if !deleted => plan.release.push(Arc::clone(pod)),
            (false, true, None) if !deleted && is_active(pod) => {
                plan.adopt.push(Arc::clone(pod));
                own.push(pod);
            }
            _ => {}
        }
    }
    let mut active: Vec<&Arc<Pod>> = own.into_iter().filter(|pod| is_active(pod)).collect();
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    if !deleted {
        plan.create = wanted.saturating_sub(active.len()).min(BURST);
        let surplus = active.len().saturating_sub(wanted).min(BURST);
        let mut on_node: BTreeMap<&str, usize> = BTreeMap::new();
        active.iter().for_each(|pod| *on_node.entry(node_of(pod)).or_default() += 1);
        active.sort_by_cached_key(|pod| deletion_rank(pod, on_node.get(node_of(pod)).copied().unwrap_or(0)));
        plan.delete = active.iter().take(surplus).map(|pod| Arc::clone(pod)).collect();
    }
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let waits: Vec<i64> = active.iter().filter_map(|pod| available_in(pod, min_ready, now)).collect();
    let soonest = waits.iter().filter(|&&wait| wait > 0).min();
    plan.again = soonest.map(|&wait| Duration::from_secs(wait.unsigned_abs()));
    let template = spec.template.as_ref().and_then(|template| template.metadata.as_ref());
    let template_labels = Labels::from_map(&template.and_then(|meta| meta.labels.clone()).unwrap_or_default());
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let some = |number: usize| Some(count(number)).filter(|&number| number > 0);
    let status = ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: some(
            active.iter().filter(|pod| template_labels.matches_optional(pod.metadata.labels.as_ref())).count(),
        ),
        ready_replicas: some(active.iter().filter(|pod| is_ready(pod)).count()),
        available_replicas: some(waits.iter().filter(|&&wait| wait == 0).count()),
        observed_generation: set.metadata.generation,
        conditions: set.status.as_ref().and_then(|status| status.conditions.clone()),
        ..ReplicaSetStatus::default()
    };
    plan.status = (set.status.as_ref() != Some(&status)).then_some(status);
    plan
}

/// What a pod says that its deletion costs: the cheaper goes first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

/// Who goes first, smallest first: without a node, pending, unready, cheap, beside many of its kind, ready for a short
/// time, often restarted, young.
fn deletion_rank(pod: &Pod, beside: usize) -> impl Ord + use<> {
    let cost = pod.metadata.annotations.as_ref().and_then(|all| all.get(DELETION_COST));
    let cost: i32 = cost.and_then(|text| text.parse().ok()).unwrap_or(0);
    let assigned = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()).is_some_and(|name| !name.is_empty());
    let phase = match phase(pod) {
        "Pending" => 0,
        "Running" => 2,
        _ => 1,
    };
    let later_first = |at: Option<Timestamp>| std::cmp::Reverse(at.map(|at| at.as_second()));
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (
        assigned,
        phase,
        is_ready(pod),
        cost,
        std::cmp::Reverse(beside),
        later_first(ready_since(pod)),
        -restarts(pod),
        later_first(created),
        pod.name_any(),
    )
}

fn pod_of(set: &ReplicaSet, template: &PodTemplateSpec) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", set.name_any())),
            namespace: set.namespace(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owners::reference(set)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

async fn sync(cx: Context, sets: Informer<ReplicaSet>, pods: Informer<Pod>, key: Key) -> Result<Next, Error> {
    let Some(set) = sets.by_key(&key) else { return Ok(Next::Wait) };
    let plan = plan(&set, &pods.list_in(&key.namespace), cx.config.clock.now());
    let again = plan.again;
    let mut writes = Writes::default();
    let result = carry_out(&cx, &set, plan, &sets, &pods, &mut writes).await;
    // Also after a failure: what was written must be seen before the next look.
    writes.settle().await;
    result?;
    Ok(again.map_or(Next::Wait, Next::After))
}

async fn carry_out(
    cx: &Context,
    set: &ReplicaSet,
    plan: Plan,
    sets: &Informer<ReplicaSet>,
    pods: &Informer<Pod>,
    writes: &mut Writes,
) -> Result<(), Error> {
    let namespace = set.namespace().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(cx.client.clone(), &namespace);
    for pod in &plan.adopt {
        let patch = owners::adoption(set, pod.metadata.uid.as_ref());
        let patched = api.patch(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await;
        or_gone(patched)?.iter().for_each(|pod| writes.note(pods, pod));
    }
    for pod in &plan.release {
        let patch = owners::release(&set.metadata, pod.metadata.uid.as_ref());
        let patched = api.patch(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await;
        or_gone(patched)?.iter().for_each(|pod| writes.note(pods, pod));
    }
    let clock = &cx.config.clock;
    if let Some(template) = set.spec.as_ref().and_then(|spec| spec.template.as_ref()) {
        let new = pod_of(set, template);
        let params = PostParams::default();
        // One, then twice as many each time: a template that is refused is refused once, not a hundred times.
        let (mut left, mut batch) = (plan.create, 1);
        while left > 0 {
            let size = batch.min(left);
            let results = join_all((0..size).map(|_| api.create(&params, &new))).await;
            let mut failure = None;
            for result in results {
                match result {
                    Ok(pod) => {
                        writes.note(pods, &pod);
                        let message = format!("Created pod: {}", pod.name_any());
                        cx.recorder.normal(clock, reference(set), "SuccessfulCreate", message);
                    }
                    Err(error) => failure = Some(error),
                }
            }
            if let Some(error) = failure {
                let message = format!("Error creating: {error}");
                cx.recorder.warning(clock, reference(set), "FailedCreate", message);
                return Err(error.into());
            }
            (left, batch) = (left - size, batch * 2);
        }
    }
    let deletions = plan.delete.iter().map(|pod| {
        let api = api.clone();
        let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        async move { (pod, api.delete(&pod.name_any(), &params).await) }
    });
    for (pod, result) in join_all(deletions).await {
        if let Some(either) = or_gone(result)? {
            either.map_left(|pod| writes.note(pods, &pod));
            let message = format!("Deleted pod: {}", pod.name_any());
            cx.recorder.normal(clock, reference(set), "SuccessfulDelete", message);
        }
    }
    if let Some(status) = &plan.status {
        let api: Api<ReplicaSet> = Api::namespaced(cx.client.clone(), &namespace);
        // Conditions of others are in the status too: it is written only over the one that was looked at.
        let metadata = json!({"uid": set.uid(), "resourceVersion": set.resource_version()});
        let patch = Patch::Merge(json!({"metadata": metadata, "status": with_nulls(status)?}));
        let patched = api.patch_status(&set.name_any(), &PatchParams::default(), &patch).await;
        or_gone(patched)?.iter().for_each(|set| writes.note(sets, set));
    }
    Ok(())
}

/// A status as a merge patch: what it lacks is removed.
fn with_nulls(status: &ReplicaSetStatus) -> Result<serde_json::Value, serde_json::Error> {
    let mut value = serde_json::to_value(status)?;
    for field in ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"] {
        if value.get(field).is_none() {
            value[field] = serde_json::Value::Null;
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(replicas: i32) -> ReplicaSet {
        let object = json!({
            "metadata": {"name": "web", "namespace": "a", "uid": "set", "generation": 1},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}},
        });
        serde_json::from_value(object).expect("a set")
    }

    fn pod(name: &str, owner: &str, phase: &str, ready: bool) -> Arc<Pod> {
        let owners = match owner {
            "" => json!([]),
            uid => {
                json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": uid, "controller": true}])
            }
        };
        let condition = json!({"type": "Ready", "status": if ready { "True" } else { "False" }, "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let object = json!({
            "metadata": {"name": name, "namespace": "a", "uid": name, "labels": {"app": "web"}, "ownerReferences": owners},
            "spec": {"nodeName": "n", "containers": []}, "status": {"phase": phase, "conditions": [condition]},
        });
        Arc::new(serde_json::from_value(object).expect("a pod"))
    }

    fn show(set: &ReplicaSet, pods: &[Arc<Pod>]) -> String {
        let plan = plan(set, pods, "2026-01-01T00:01:00Z".parse().expect("a time"));
        let names = |pods: &[Arc<Pod>]| pods.iter().map(|pod| pod.name_any()).collect::<Vec<_>>().join(",");
        let status = plan.status.map(|status| format!("{}/{}", status.ready_replicas.unwrap_or(0), status.replicas));
        format!(
            "adopt {} release {} create {} delete {} status {}",
            names(&plan.adopt),
            names(&plan.release),
            plan.create,
            names(&plan.delete),
            status.unwrap_or_default()
        )
    }

    #[test]
    fn pods_are_made_adopted_and_deleted_by_rank() {
        let running = |name: &str| pod(name, "set", "Running", true);
        let lines = [
            show(&set(2), &[]),
            show(&set(1), &[running("a"), pod("b", "set", "Pending", false)]),
            show(&set(2), &[running("a"), pod("orphan", "", "Running", true)]),
            show(&set(1), &[pod("theirs", "other", "Running", true)]),
            show(&set(2), &[running("a"), pod("done", "set", "Failed", false)]),
            show(&set(0), &[running("a"), pod("c", "set", "Running", false)]),
        ];
        expect_test::expect![[r#"
            adopt  release  create 2 delete  status 0/0
            adopt  release  create 0 delete b status 1/2
            adopt orphan release  create 0 delete  status 2/2
            adopt  release  create 1 delete  status 0/0
            adopt  release  create 1 delete  status 1/1
            adopt  release  create 0 delete c,a status 1/2"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn cheap_pods_go_first_then_those_that_share_a_node() {
        let on = |name: &str, node: &str, cost: Option<&str>| {
            let mut pod = (*pod(name, "set", "Running", true)).clone();
            pod.spec.as_mut().expect("a spec").node_name = Some(node.to_owned());
            pod.metadata.annotations = cost.map(|cost| BTreeMap::from([(DELETION_COST.to_owned(), cost.to_owned())]));
            Arc::new(pod)
        };
        let pods = [on("a", "n1", None), on("b", "n2", None), on("c", "n2", None), on("d", "n3", Some("-5"))];
        let wanted = "adopt  release  create 0 delete d,b status 4/4";
        assert_eq!(show(&set(2), &pods), wanted);
    }

    #[test]
    fn a_set_that_is_as_it_should_be_needs_nothing() {
        let mut set = set(1);
        let pods = [pod("a", "set", "Running", true)];
        set.status = plan(&set, &pods, Timestamp::UNIX_EPOCH).status;
        assert_eq!(show(&set, &pods), "adopt  release  create 0 delete  status ");
    }
}
