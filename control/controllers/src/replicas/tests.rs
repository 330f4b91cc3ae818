//! Sets of equal pods, row by row.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_api::api::apps::v1::ReplicaSet;
use corten_api::api::core::v1::{Pod, ReplicationController};
use corten_base::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::kinds::Replicated;
use super::plan::{DELETION_COST, plan};
use super::status::with_failure;

fn object(replicas: i32, selector: Value) -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "a", "uid": "set", "generation": 1},
        "spec": {"replicas": replicas, "selector": selector,
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}},
    })
}

fn set(replicas: i32) -> ReplicaSet {
    serde_json::from_value(object(replicas, json!({"matchLabels": {"app": "web"}}))).expect("a set")
}

fn pod(name: &str, owner: &str, phase: &str, ready: bool) -> Arc<Pod> {
    let owners = match owner {
        "" => json!([]),
        uid => json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": uid, "controller": true}]),
    };
    let status = if ready { "True" } else { "False" };
    let condition = json!({"type": "Ready", "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let object = json!({
        "metadata": {"name": name, "namespace": "a", "uid": name, "labels": {"app": "web"}, "ownerReferences": owners},
        "spec": {"nodeName": "n", "containers": []}, "status": {"phase": phase, "conditions": [condition]},
    });
    Arc::new(serde_json::from_value(object).expect("a pod"))
}

fn ending(mut pod: Arc<Pod>) -> Arc<Pod> {
    let at = serde_json::from_value(json!("2026-01-01T00:00:30Z")).expect("a time");
    Arc::make_mut(&mut pod).metadata.deletion_timestamp = Some(at);
    pod
}

fn now() -> Timestamp {
    "2026-01-01T00:01:00Z".parse().expect("a time")
}

fn show<K: Replicated>(set: &K, pods: &[Arc<Pod>]) -> String {
    let plan = plan(set, pods, &["set".to_owned(), "older".to_owned()], now());
    let names = |pods: &[Arc<Pod>]| pods.iter().map(|pod| pod.name_any()).collect::<Vec<_>>().join(",");
    let terminating = plan.status.terminating_replicas.map(|count| format!(" ending {count}")).unwrap_or_default();
    format!(
        "adopt {} release {} create {} delete {} status {}/{}{terminating}",
        names(&plan.claims.adopt),
        names(&plan.claims.release),
        plan.create.len(),
        names(&plan.delete),
        plan.status.ready_replicas.unwrap_or(0),
        plan.status.replicas,
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
        // One that is ending counts no more, but is told of.
        show(&set(2), &[running("a"), ending(running("b"))]),
    ];
    expect_test::expect![[r#"
        adopt  release  create 2 delete  status 0/0 ending 0
        adopt  release  create 0 delete b status 1/2 ending 0
        adopt orphan release  create 0 delete  status 2/2 ending 0
        adopt  release  create 1 delete  status 0/0 ending 0
        adopt  release  create 1 delete  status 1/1 ending 0
        adopt  release  create 0 delete c,a status 1/2 ending 0
        adopt  release  create 1 delete  status 1/1 ending 1"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn a_replication_controller_is_the_same_with_plain_labels() {
    let of = |selector: Value| -> ReplicationController {
        serde_json::from_value(object(2, selector)).expect("a replication controller")
    };
    let pods = [pod("a", "set", "Running", true), pod("orphan", "", "Running", true)];
    let lines =
        [show(&of(json!({"app": "web"})), &pods), show(&of(json!({"app": "x"})), &pods), show(&of(json!({})), &pods)];
    expect_test::expect![[r#"
        adopt orphan release  create 0 delete  status 2/2
        adopt  release a create 2 delete  status 0/0
        adopt  release  create 0 delete  status 0/0"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn cheap_pods_go_first_then_those_that_share_a_node_with_their_like() {
    let on = |name: &str, owner: &str, node: &str, cost: Option<&str>| {
        let mut pod = (*pod(name, owner, "Running", true)).clone();
        pod.spec.as_mut().expect("a spec").node_name = Some(node.to_owned());
        pod.metadata.annotations = cost.map(|cost| BTreeMap::from([(DELETION_COST.to_owned(), cost.to_owned())]));
        Arc::new(pod)
    };
    let pods = [
        on("a", "set", "n1", None),
        on("b", "set", "n2", None),
        on("c", "set", "n2", None),
        on("d", "set", "n3", Some("-5")),
        // Two of an older set of the same deployment, and one of somebody else's.
        on("old-1", "older", "n1", None),
        on("old-2", "older", "n1", None),
        on("theirs", "other", "n2", None),
    ];
    let wanted = "adopt  release  create 0 delete d,a status 4/4 ending 0";
    assert_eq!(show(&set(2), &pods), wanted);
}

#[test]
fn the_young_go_before_the_old_by_magnitude() {
    let since = |name: &str, ready: &str| {
        let mut pod = (*pod(name, "set", "Running", true)).clone();
        let at = serde_json::from_value(json!(ready)).expect("a time");
        let conditions = pod.status.as_mut().and_then(|status| status.conditions.as_mut());
        conditions.expect("conditions")[0].last_transition_time = Some(at);
        Arc::new(pod)
    };
    // 60, 50 and 2 seconds: the first two are about as old, so their UIDs decide.
    let pods =
        [since("b", "2026-01-01T00:00:00Z"), since("a", "2026-01-01T00:00:10Z"), since("c", "2026-01-01T00:00:58Z")];
    assert_eq!(show(&set(1), &pods), "adopt  release  create 0 delete c,a status 3/3 ending 0");
}

#[test]
fn a_failure_is_said_once_and_taken_back() {
    let status = set(1).status();
    let failed = with_failure(status.clone(), Some(("FailedCreate", "quota".to_owned())), now());
    let condition = failed.conditions.as_ref().and_then(|all| all.first()).expect("a condition");
    assert_eq!((&*condition.type_, condition.reason.as_deref()), ("ReplicaFailure", Some("FailedCreate")));
    let again = with_failure(failed.clone(), Some(("FailedCreate", "something else".to_owned())), now());
    assert_eq!(again, failed, "a status that changes with each attempt would be written each time");
    assert_eq!(with_failure(failed, None, now()), status);
}

#[test]
fn a_set_that_is_as_it_should_be_needs_nothing() {
    let mut set = set(1);
    let pods = [pod("a", "set", "Running", true)];
    set.status = Some(plan(&set, &pods, &[], now()).status);
    let again = plan(&set, &pods, &[], now());
    assert!(again.create.is_empty() && again.delete.is_empty() && again.claims.adopt.is_empty());
    assert_eq!(again.status, set.status());
}
