//! Marks nodes that no longer say that they are well, and moves pods away from them in time.
//!
//! Behaviour: pkg/controller/nodelifecycle and tainteviction of Kubernetes v1.36.

use std::sync::Arc;
use std::time::Duration;

use corten_api::api::coordination::v1::Lease;
use corten_api::api::core::v1::{Node, NodeCondition, Pod, Taint};
use corten_api::meta::Time;
use corten_base::Timestamp;
use corten_client::{Informer, Key, Next, Writes, reference};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::context::{Context, Error, or_gone};
use crate::pods::{is_active, is_ready};

/// A node that has not renewed its lease for so long is not trusted to be well.
const GRACE: Duration = Duration::from_secs(50);
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

pub(crate) async fn run(cx: Context) {
    let (nodes, pods) = (cx.informers.of::<Node>(), cx.informers.of::<Pod>());
    let leases = cx.informers.of::<Lease>();
    let queue = cx.queue.clone();
    nodes.on_change(move |_, new| new.into_iter().for_each(|node| queue.add(Key::of(node))));
    let (queue, known) = (cx.queue.clone(), nodes.clone());
    pods.on_change(move |old, new| {
        let Some(name) = new.and_then(|pod| pod.spec.as_ref()).and_then(|spec| spec.node_name.clone()) else { return };
        let tainted =
            known.get("", &name).is_some_and(|node| taints(&node).iter().any(|taint| taint.effect == "NoExecute"));
        if old.is_none() && tainted {
            queue.add(Key::new("", name));
        }
    });
    tokio::join!(nodes.synced(), pods.synced(), leases.synced());
    // While nobody served, no node could renew its lease: silence counts from now at the earliest.
    let start = cx.config.clock.now();
    let caches = Caches { nodes, leases, pods, start };
    cx.work(2, move |cx, key| sync(cx, caches.clone(), key)).await;
}

#[derive(Clone)]
struct Caches {
    nodes: Informer<Node>,
    leases: Informer<Lease>,
    pods: Informer<Pod>,
    /// When this controller began to look.
    start: Timestamp,
}

fn taints(node: &Node) -> Vec<Taint> {
    node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default()
}

fn ready(node: &Node) -> Option<&NodeCondition> {
    node.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == "Ready")
}

/// What is to be done about a node.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    /// Its conditions become unknown.
    lost: bool,
    /// Nobody has heard of it for too long.
    silent: bool,
    /// Its taints, if they change.
    taints: Option<Vec<Taint>>,
    /// When its lease will be too old.
    again: Option<Duration>,
}

fn plan(node: &Node, renewed: Option<Timestamp>, now: Timestamp) -> Plan {
    let created = node.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let seen = renewed.max(created).unwrap_or(now);
    let age = Duration::try_from(now.duration_since(seen)).unwrap_or_default();
    let silent = age >= GRACE;
    let condition = ready(node).map(|condition| condition.status.as_str());
    let lost = silent && condition != Some("Unknown");
    let state = if lost { Some("Unknown") } else { condition };
    let key = match state {
        Some("True") => None,
        Some("Unknown") => Some(UNREACHABLE),
        _ => Some(NOT_READY),
    };
    let before = taints(node);
    let ours = [NOT_READY, UNREACHABLE, UNSCHEDULABLE];
    let mut after: Vec<Taint> = before.iter().filter(|taint| !ours.contains(&taint.key.as_str())).cloned().collect();
    let mut add = |key: &str, effect: &str| {
        let known = before.iter().find(|taint| taint.key == key && taint.effect == effect).cloned();
        let at = (effect == "NoExecute").then(|| Time(Timestamp::from_second(now.as_second()).unwrap_or(now)));
        after.push(known.unwrap_or(Taint {
            key: key.to_owned(),
            effect: effect.to_owned(),
            value: None,
            time_added: at,
        }));
    };
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        add(UNSCHEDULABLE, "NoSchedule");
    }
    if let Some(key) = key {
        add(key, "NoSchedule");
        // A node that has never been ready has nothing to move away.
        if condition.is_some() {
            add(key, "NoExecute");
        }
    }
    Plan { lost, silent, taints: (after != before).then_some(after), again: (!silent).then(|| GRACE - age) }
}

/// Whether the pod stands all taints; if only for a time, how many seconds at most.
fn tolerates(pod: &Pod, taints: &[&Taint]) -> (bool, Option<i64>) {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.clone()).unwrap_or_default();
    let mut least: Option<i64> = None;
    for taint in taints {
        let matching = tolerations.iter().find(|toleration| {
            let effect = toleration.effect.as_deref().unwrap_or_default();
            let key = toleration.key.as_deref().unwrap_or_default();
            let value = toleration.operator.as_deref() == Some("Exists") || toleration.value == taint.value;
            (effect.is_empty() || effect == taint.effect) && (key.is_empty() || key == taint.key) && value
        });
        let Some(toleration) = matching else { return (false, None) };
        if let Some(seconds) = toleration.toleration_seconds {
            let passed_until = taint.time_added.as_ref().map_or(0, |time| time.0.as_second());
            let end = passed_until + seconds.max(0);
            least = Some(least.map_or(end, |least| least.min(end)));
        }
    }
    (true, least)
}

async fn sync(cx: Context, caches: Caches, key: Key) -> Result<Next, Error> {
    let Caches { nodes, leases, pods, start } = caches;
    let now = cx.config.clock.now();
    let Some(node) = nodes.by_key(&key) else { return Ok(Next::Wait) };
    let on_node: Vec<Arc<Pod>> = pods
        .list()
        .into_iter()
        .filter(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(&key.name))
        .collect();
    let api: Api<Node> = Api::all(cx.client.clone());
    let renewed = leases
        .get("kube-node-lease", &key.name)
        .and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref().map(|time| time.0));
    let plan = plan(&node, renewed.max(Some(start)), now);
    let mut writes = Writes::default();
    if plan.lost {
        let mut status = (*node).clone();
        let at = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
        for condition in status.status.iter_mut().flat_map(|status| status.conditions.iter_mut().flatten()) {
            condition.status = "Unknown".to_owned();
            condition.reason = Some("NodeStatusUnknown".to_owned());
            condition.message = Some("Kubelet stopped posting node status.".to_owned());
            condition.last_transition_time = Some(at.clone());
        }
        cx.recorder.normal(
            &cx.config.clock,
            reference(&*node),
            "NodeNotReady",
            format!("Node {} status is now: NodeNotReady", key.name),
        );
        writes.note(&nodes, &api.replace_status(&key.name, &PostParams::default(), &status).await?);
    }
    if let Some(taints) = &plan.taints {
        let patch = Patch::Merge(json!({"spec": {"taints": taints}}));
        writes.note(&nodes, &api.patch(&key.name, &PatchParams::default(), &patch).await?);
    }
    for pod in on_node.iter().filter(|pod| plan.silent && is_ready(pod)) {
        // Nobody there can say it, and services must not send anybody there.
        let at = Timestamp::from_second(now.as_second()).unwrap_or(now).to_string();
        let condition = json!({"type": "Ready", "status": "False", "lastTransitionTime": at});
        let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}}));
        let api: Api<Pod> = Api::namespaced(cx.client.clone(), &pod.namespace().unwrap_or_default());
        let patched = api.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await;
        or_gone(patched)?.iter().for_each(|pod| writes.note(&pods, pod));
    }
    writes.settle().await;
    let current = plan.taints.unwrap_or_else(|| taints(&node));
    let repelling: Vec<&Taint> = current.iter().filter(|taint| taint.effect == "NoExecute").collect();
    let mut again = plan.again;
    for pod in on_node.iter().filter(|pod| is_active(pod) && !repelling.is_empty()) {
        let (tolerated, until) = tolerates(pod, &repelling);
        match until {
            None if tolerated => {}
            Some(until) if tolerated && until > now.as_second() => {
                let wait = Duration::from_secs((until - now.as_second()).unsigned_abs());
                again = Some(again.map_or(wait, |again| again.min(wait)));
            }
            _ => {
                cx.recorder.normal(
                    &cx.config.clock,
                    reference(&**pod),
                    "TaintManagerEviction",
                    format!("Marking for deletion Pod {}", Key::of(&**pod)),
                );
                let api: Api<Pod> = Api::namespaced(cx.client.clone(), &pod.namespace().unwrap_or_default());
                or_gone(api.delete(&pod.name_any(), &DeleteParams::default()).await)?;
            }
        }
    }
    Ok(again.map_or(Next::Wait, |again| Next::After(again + Duration::from_millis(100))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(ready: Option<&str>) -> Node {
        let conditions: Vec<_> = ready.iter().map(|ready| json!({"type": "Ready", "status": ready})).collect();
        let object = json!({"metadata": {"name": "n", "creationTimestamp": "2026-01-01T00:00:00Z"}, "status": {"conditions": conditions}});
        serde_json::from_value(object).expect("a node")
    }

    fn show(node: &Node, seconds_silent: i64) -> String {
        let renewed: Timestamp = "2026-01-01T01:00:00Z".parse().expect("a time");
        let now = Timestamp::from_second(renewed.as_second() + seconds_silent).expect("a time");
        let plan = plan(node, Some(renewed), now);
        let taints = plan
            .taints
            .map(|taints| taints.iter().map(|t| format!("{}:{}", t.key, t.effect)).collect::<Vec<_>>().join(","));
        format!(
            "lost {} silent {} taints {} again {:?}",
            plan.lost,
            plan.silent,
            taints.unwrap_or_default(),
            plan.again.map(|again| again.as_secs())
        )
    }

    #[test]
    fn silent_nodes_are_lost_and_tainted() {
        let lines = [
            show(&node(Some("True")), 10),
            show(&node(Some("True")), 60),
            show(&node(Some("False")), 10),
            show(&node(None), 1),
        ];
        expect_test::expect![[r#"
            lost false silent false taints  again Some(40)
            lost true silent true taints node.kubernetes.io/unreachable:NoSchedule,node.kubernetes.io/unreachable:NoExecute again None
            lost false silent false taints node.kubernetes.io/not-ready:NoSchedule,node.kubernetes.io/not-ready:NoExecute again Some(40)
            lost false silent false taints node.kubernetes.io/not-ready:NoSchedule again Some(49)"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn pods_leave_when_their_time_is_over() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [], "tolerations": [
            {"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
        ]}}))
        .expect("a pod");
        let taint = |key: &str| Taint {
            key: key.to_owned(),
            effect: "NoExecute".to_owned(),
            value: None,
            time_added: Some(Time(Timestamp::from_second(1000).expect("a time"))),
        };
        assert_eq!(tolerates(&pod, &[&taint(UNREACHABLE)]), (true, Some(1300)));
        assert_eq!(tolerates(&pod, &[&taint("other")]), (false, None));
    }
}
