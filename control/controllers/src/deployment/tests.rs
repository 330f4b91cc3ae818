//! Deployments, row by row.

use std::sync::Arc;

use corten_api::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use corten_api::api::core::v1::Pod;
use serde_json::{Value, json};

use super::plan::{HASH, Op, REVISION, View, plan};

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

fn deployment(replicas: i32, image: &str, strategy: Value) -> Deployment {
    let object = json!({
        "metadata": {"name": "web", "namespace": "a", "uid": "d", "generation": 1},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "strategy": strategy,
            "revisionHistoryLimit": 1, "progressDeadlineSeconds": 600, "template": template(image)},
    });
    serde_json::from_value(object).expect("a deployment")
}

fn rolling(surge: Value, unavailable: Value) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
}

/// A set of this image: wanted, there, available.
fn set(image: &str, revision: i64, wanted: i32, there: i32, available: i32, desired: i32) -> Arc<ReplicaSet> {
    let mut pods = template(image);
    pods["metadata"]["labels"][HASH] = image.into();
    let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d", "controller": true});
    let annotations = json!({REVISION: revision.to_string(), "deployment.kubernetes.io/desired-replicas": desired.to_string(),
        "deployment.kubernetes.io/max-replicas": desired.saturating_add(1).to_string()});
    let object = json!({
        "metadata": {"name": format!("web-{image}"), "namespace": "a", "uid": image, "generation": 1,
            "labels": {"app": "web"}, "ownerReferences": [owner], "annotations": annotations,
            "creationTimestamp": format!("2026-01-01T00:00:{revision:02}Z")},
        "spec": {"replicas": wanted, "selector": {"matchLabels": {"app": "web"}}, "template": pods},
        "status": {"replicas": there, "readyReplicas": available, "availableReplicas": available, "observedGeneration": 1},
    });
    Arc::new(serde_json::from_value(object).expect("a set"))
}

#[test]
fn a_rollout_that_is_done_does_not_time_out_when_a_pod_falls_ill() {
    let mut done = deployment(3, "v1", rolling(json!(1), json!(0)));
    let progressing = json!({"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable",
        "message": "ReplicaSet \"web-v1\" has successfully progressed.",
        "lastUpdateTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let approved = json!({"type": "Approved", "status": "True", "reason": "ByOthers"});
    done.status = serde_json::from_value(json!({"replicas": 3, "updatedReplicas": 3, "readyReplicas": 3,
        "availableReplicas": 3, "conditions": [approved, progressing]}))
    .expect("a status");
    let view = View { deployment: Arc::new(done), sets: vec![set("v1", 1, 3, 3, 2, 3)], pods: Vec::new() };
    let plan = plan(&view, "2026-01-01T01:00:00Z".parse().expect("a time"));
    let Some(Op::Status(status)) = plan.ops.last() else { panic!("a status is due: {:?}", plan.ops) };
    assert_eq!(reason(status, "Approved"), Some("ByOthers"), "others' conditions stay");
    assert_eq!(reason(status, "Progressing"), Some("NewReplicaSetAvailable"));
    assert_eq!(plan.again, None);
}

fn reason<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a str> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)?.reason.as_deref()
}

/// The status that a deployment gets.
fn status_of(deployment: Deployment, sets: Vec<Arc<ReplicaSet>>) -> DeploymentStatus {
    let view = View { deployment: Arc::new(deployment), sets, pods: Vec::new() };
    let plan = plan(&view, "2026-01-01T01:00:00Z".parse().expect("a time"));
    let status = plan.ops.into_iter().find_map(|op| match op {
        Op::Status(status) => Some(*status),
        _ => None,
    });
    status.or_else(|| view.deployment.status.clone()).unwrap_or_default()
}

/// A deployment with this reason of its condition Progressing, given a while ago.
fn progressing(mut deployment: Deployment, reason: &str, updated: i32) -> Deployment {
    let condition = json!({"type": "Progressing", "status": "True", "reason": reason,
        "lastUpdateTime": "2026-01-01T00:59:00Z", "lastTransitionTime": "2026-01-01T00:59:00Z"});
    let status = json!({"replicas": updated, "updatedReplicas": updated, "readyReplicas": updated,
        "availableReplicas": updated, "conditions": [condition]});
    deployment.status = serde_json::from_value(status).ok();
    deployment
}

fn show(deployment: Deployment, sets: Vec<Arc<ReplicaSet>>) -> String {
    let view = View { deployment: Arc::new(deployment), sets, pods: Vec::new() };
    let mut lines = Vec::new();
    for op in plan(&view, "2026-01-01T01:00:00Z".parse().expect("a time")).ops {
        match op {
            Op::CreateSet(set) => {
                lines.push(format!("create of {:?}", set.spec.and_then(|spec| spec.replicas).unwrap_or(1)));
            }
            Op::PatchSet { name, patch } if patch["spec"]["replicas"].is_i64() => {
                lines.push(format!("{name} to {}", patch["spec"]["replicas"]));
            }
            Op::PatchSet { name, patch } => lines.push(format!("{name} gets {}", patch["metadata"]["annotations"])),
            Op::DeleteSet(set) => lines.push(format!("delete {}", set.name.unwrap_or_default())),
            Op::Annotate(annotations) => {
                lines.push(format!("revision {}", annotations.values().next().cloned().unwrap_or_default()));
            }
            Op::Event(_) => {}
            Op::Status(status) => {
                let conditions = status.conditions.as_deref().unwrap_or_default();
                let reasons: Vec<&str> = conditions.iter().filter_map(|own| own.reason.as_deref()).collect();
                lines.push(format!("status {}", reasons.join(" ")));
            }
        }
    }
    lines.join("; ")
}

#[test]
fn a_rolling_update_goes_step_by_step_and_never_below_its_bounds() {
    let two = || deployment(3, "v2", rolling(json!("25%"), json!("25%")));
    let lines = [
        show(deployment(3, "v1", rolling(json!("25%"), json!("25%"))), vec![]),
        // One more than wanted may run (25 % of 3, rounded up); none may be missing (rounded down).
        show(two(), vec![set("v1", 1, 3, 3, 3, 3)]),
        show(two(), vec![set("v1", 1, 3, 3, 3, 3), set("v2", 2, 1, 1, 0, 3)]),
        show(two(), vec![set("v1", 1, 3, 3, 3, 3), set("v2", 2, 1, 1, 1, 3)]),
        show(two(), vec![set("v1", 1, 2, 2, 2, 3), set("v2", 2, 1, 1, 1, 3)]),
        show(two(), vec![set("v1", 1, 1, 1, 1, 3), set("v2", 2, 3, 3, 3, 3)]),
        show(two(), vec![set("v1", 1, 0, 0, 0, 3), set("v2", 2, 3, 3, 3, 3)]),
        // Old pods that serve nobody go first.
        show(
            deployment(3, "v3", rolling(json!(1), json!(0))),
            vec![set("v1", 1, 2, 2, 2, 3), set("v2", 2, 1, 1, 0, 3), set("v3", 3, 1, 1, 1, 3)],
        ),
    ];
    expect_test::expect![[r#"
        create of 3; revision 1; status MinimumReplicasUnavailable NewReplicaSetCreated
        create of 1; revision 2; status MinimumReplicasAvailable NewReplicaSetCreated
        revision 2; status MinimumReplicasAvailable ReplicaSetUpdated
        revision 2; web-v1 to 2; status MinimumReplicasAvailable ReplicaSetUpdated
        revision 2; web-v2 to 2; status MinimumReplicasAvailable ReplicaSetUpdated
        revision 2; web-v1 to 0; status MinimumReplicasAvailable ReplicaSetUpdated
        revision 2; status MinimumReplicasAvailable NewReplicaSetAvailable
        revision 3; web-v2 to 0; status MinimumReplicasAvailable ReplicaSetUpdated"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn undo_scaling_recreate_and_history() {
    let lines = [
        // Undone: the first template again, so its set gets the newest revision.
        show(
            deployment(1, "v1", rolling(json!(1), json!(0))),
            vec![set("v1", 1, 0, 0, 0, 1), set("v2", 2, 1, 1, 1, 1)],
        ),
        // Scaled while nothing rolls.
        show(deployment(5, "v1", rolling(json!(1), json!(0))), vec![set("v1", 1, 3, 3, 3, 3)]),
        // Scaled in the middle of a rollout: shares.
        show(
            deployment(10, "v2", rolling(json!(1), json!(0))),
            vec![set("v1", 1, 4, 4, 4, 5), set("v2", 2, 2, 2, 2, 5)],
        ),
        show(deployment(2, "v2", json!({"type": "Recreate"})), vec![set("v1", 1, 2, 2, 2, 2)]),
        show(deployment(2, "v2", json!({"type": "Recreate"})), vec![set("v1", 1, 0, 0, 0, 2)]),
        // One old set may stay.
        show(
            deployment(1, "v3", rolling(json!(1), json!(0))),
            vec![set("v1", 1, 0, 0, 0, 1), set("v2", 2, 0, 0, 0, 1), set("v3", 3, 1, 1, 1, 1)],
        ),
    ];
    expect_test::expect![[r#"
        web-v1 gets {"deployment.kubernetes.io/revision":"3","deployment.kubernetes.io/revision-history":"1"}; revision 3; web-v1 to 1; status MinimumReplicasAvailable ReplicaSetUpdated
        revision 1; web-v1 to 5; status MinimumReplicasUnavailable
        revision 2; web-v1 to 7; web-v2 to 4; status MinimumReplicasUnavailable
        web-v1 to 0; status MinimumReplicasAvailable ReplicaSetUpdated
        create of 2; revision 2; status MinimumReplicasUnavailable NewReplicaSetCreated
        revision 3; delete web-v1; status MinimumReplicasAvailable NewReplicaSetAvailable"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn each_set_keeps_its_share_when_a_deployment_is_scaled_in_the_middle_of_a_rollout() {
    // 10 pods, 3 more and 2 less at a time: a rollout that is stuck at 8 and 5.
    let sized = |replicas: i32| deployment(replicas, "v2", rolling(json!(3), json!(2)));
    let stuck = |old: i32, new: i32, most: i32, desired: i32| {
        let mut sets = vec![set("v1", 1, old, old, old, desired), set("v2", 2, new, new, 0, desired)];
        for set in &mut sets {
            let annotations = Arc::make_mut(set).metadata.annotations.get_or_insert_default();
            annotations.insert("deployment.kubernetes.io/max-replicas".to_owned(), most.to_string());
        }
        sets
    };
    let lines = [
        show(sized(30), stuck(8, 5, 13, 10)),
        show(sized(10), stuck(20, 13, 33, 30)),
        show(sized(0), stuck(8, 5, 13, 10)),
        show(sized(3), stuck(8, 5, 13, 10)),
    ];
    expect_test::expect![[r#"
        revision 2; web-v1 to 20; web-v2 to 13; status MinimumReplicasUnavailable
        revision 2; web-v1 to 8; web-v2 to 5; status MinimumReplicasAvailable
        revision 2; web-v1 to 0; web-v2 to 0; status MinimumReplicasAvailable
        revision 2; web-v1 to 4; web-v2 to 2; status MinimumReplicasAvailable"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn a_pause_is_told_and_taken_back_and_hides_no_lateness() {
    let of = |paused: bool, before: &str| {
        let mut own = progressing(deployment(1, "v1", rolling(json!(1), json!(0))), before, 1);
        own.spec.as_mut().expect("a spec").paused = Some(paused);
        let status = status_of(own, vec![set("v1", 1, 1, 1, 0, 1)]);
        reason(&status, "Progressing").unwrap_or_default().to_owned()
    };
    assert_eq!(of(true, "ReplicaSetUpdated"), "DeploymentPaused");
    assert_eq!(of(true, "ProgressDeadlineExceeded"), "ProgressDeadlineExceeded");
    assert_eq!(of(false, "DeploymentPaused"), "DeploymentResumed");
    assert_eq!(of(false, "ReplicaSetUpdated"), "ReplicaSetUpdated");
    let mut endless = progressing(deployment(1, "v1", rolling(json!(1), json!(0))), "ReplicaSetUpdated", 1);
    endless.spec.as_mut().expect("a spec").progress_deadline_seconds = Some(i32::MAX);
    assert_eq!(reason(&status_of(endless, vec![set("v1", 1, 1, 1, 0, 1)]), "Progressing"), None);
}

#[test]
fn a_new_set_is_named_and_the_trouble_of_sets_is_the_deployments() {
    let own = || deployment(1, "v1", rolling(json!(1), json!(0)));
    let status = status_of(own(), vec![]);
    let condition = status.conditions.iter().flatten().find(|own| own.type_ == "Progressing").expect("a condition");
    let message = condition.message.as_deref().unwrap_or_default();
    assert!(message.starts_with("Created new replica set \"web-"), "{message}");
    let mut failed = set("v1", 1, 1, 0, 0, 1);
    let condition = json!([{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}]);
    let status = &mut Arc::make_mut(&mut failed).status;
    status.as_mut().expect("a status").conditions = serde_json::from_value(condition).ok();
    assert_eq!(reason(&status_of(own(), vec![failed]), "ReplicaFailure"), Some("FailedCreate"));
    assert_eq!(reason(&status_of(own(), vec![set("v1", 1, 1, 0, 0, 1)]), "ReplicaFailure"), None);
}

#[test]
fn pods_that_are_ending_are_counted_once_all_sets_tell_of_theirs() {
    let telling = |image: &str, count: Option<i32>| {
        let mut set = set(image, 1, 1, 1, 1, 1);
        Arc::make_mut(&mut set).status.as_mut().expect("a status").terminating_replicas = count;
        set
    };
    let of = |sets| status_of(deployment(1, "v1", rolling(json!(1), json!(0))), sets).terminating_replicas;
    assert_eq!(of(vec![telling("v1", Some(2)), telling("v2", Some(1))]), Some(3));
    assert_eq!(of(vec![telling("v1", Some(2)), telling("v2", None)]), None);
}

#[test]
fn recreating_waits_for_the_last_old_pod() {
    let own = || deployment(2, "v2", json!({"type": "Recreate"}));
    let owner =
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-v1", "uid": "v1", "controller": true}]);
    let ops = |pods: Vec<Arc<Pod>>, actual: i32| {
        let view = View { deployment: Arc::new(own()), sets: vec![set("v1", 1, 0, actual, 0, 2)], pods };
        let plan = plan(&view, "2026-01-01T01:00:00Z".parse().expect("a time"));
        plan.ops.iter().any(|op| matches!(op, Op::CreateSet(_)))
    };
    let pod = |phase: &str| -> Arc<Pod> {
        let meta = json!({"name": "p", "ownerReferences": owner, "deletionTimestamp": "2026-01-01T00:00:00Z"});
        Arc::new(serde_json::from_value(json!({"metadata": meta, "status": {"phase": phase}})).expect("a pod"))
    };
    assert!(!ops(vec![pod("Running")], 0), "it is still ending");
    assert!(!ops(vec![], 1), "the set has not seen it go");
    assert!(ops(vec![pod("Failed")], 0));
    assert!(ops(vec![], 0));
}

#[test]
fn numbers_that_nobody_can_mean_do_no_harm() {
    let huge = || deployment(i32::MAX, "v2", rolling(json!("100%"), json!("25%")));
    let sets = vec![set("v1", 1, i32::MAX, 0, 0, i32::MAX), set("v2", 2, i32::MAX, 0, 0, i32::MAX)];
    show(huge(), sets.clone());
    assert!(show(deployment(1, "v2", rolling(json!(1), json!(0))), sets).contains("web-v2 to"), "the way back is open");
    assert!(show(huge(), vec![]).contains("create of 2147483647"));
}
