//! Deployments, row by row.

use std::sync::Arc;

use corten_api::api::apps::v1::{Deployment, ReplicaSet};
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
        "deployment.kubernetes.io/max-replicas": (desired + 1).to_string()});
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
    let find = |kind: &str| status["conditions"].as_array().into_iter().flatten().find(|one| one["type"] == kind);
    let kept = find("Progressing");
    assert_eq!(find("Approved").map(|one| &one["reason"]), Some(&json!("ByOthers")), "others' conditions stay");
    assert_eq!(kept.map(|one| &one["reason"]), Some(&json!("NewReplicaSetAvailable")));
    assert_eq!(plan.again, None);
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
            Op::DeleteSet(name) => lines.push(format!("delete {name}")),
            Op::Annotate(annotations) => {
                lines.push(format!("revision {}", annotations.values().next().cloned().unwrap_or_default()));
            }
            Op::Event(_) => {}
            Op::Status(status) => {
                let reasons: Vec<&str> = status["conditions"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|c| c["reason"].as_str())
                    .collect();
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
        web-v1 to 5; status MinimumReplicasUnavailable ReplicaSetUpdated
        web-v1 to 8; web-v2 to 3; status MinimumReplicasUnavailable ReplicaSetUpdated
        web-v1 to 0; status MinimumReplicasAvailable NewReplicaSetCreated
        create of 2; revision 2; status MinimumReplicasUnavailable NewReplicaSetCreated
        revision 3; delete web-v1; status MinimumReplicasAvailable NewReplicaSetAvailable"#]]
    .assert_eq(&lines.join("\n"));
}
