//! StatefulSets, row by row.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corten_api::api::apps::v1::StatefulSet;
use corten_api::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::identity;
use super::plan::{Plan, Revision, View, plan};

/// A set of three whose pods are of revision `new`, with more in its spec.
fn set(more: Value) -> StatefulSet {
    let mut object = json!({
        "metadata": {"name": "db", "namespace": "a", "uid": "set", "generation": 1},
        "spec": {"replicas": 3, "serviceName": "dbs", "selector": {"matchLabels": {"app": "db"}},
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c"}]}}},
    });
    json_merge(&mut object["spec"], &more);
    serde_json::from_value(object).expect("a set")
}

fn json_merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            from.iter().for_each(|(key, value)| json_merge(into.entry(key.clone()).or_insert(Value::Null), value));
        }
        (into, from) => *into = from.clone(),
    }
}

/// Pods as words: `0new` is ready, `-` after it unready, `p` pending, `x` ending, `f` failed, `s` succeeded, `y` ready
/// since just now, `c` crashing again and again.
fn pods(words: &str) -> Vec<Arc<Pod>> {
    words.split_whitespace().map(pod).collect()
}

fn pod(word: &str) -> Arc<Pod> {
    let digits = word.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(word.len());
    let (ordinal, rest) = word.split_at(digits);
    let (revision, mark) = rest.split_at(3);
    let phase = match mark {
        "p" => "Pending",
        "f" => "Failed",
        "s" => "Succeeded",
        _ => "Running",
    };
    let ready = if ["", "x", "y"].contains(&mark) { "True" } else { "False" };
    let since = if mark == "y" { "2026-01-01T00:59:55Z" } else { "2026-01-01T00:00:00Z" };
    let name = format!("db-{ordinal}");
    let mut meta = json!({"name": name, "namespace": "a", "uid": format!("uid-{ordinal}"),
        "labels": {"app": "db", "controller-revision-hash": revision, "statefulset.kubernetes.io/pod-name": name,
            "apps.kubernetes.io/pod-index": ordinal}});
    if mark == "x" {
        meta["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    let condition = json!({"type": "Ready", "status": ready, "lastTransitionTime": since});
    let waiting = if mark == "c" { json!({"waiting": {"reason": "CrashLoopBackOff"}}) } else { json!({}) };
    let container =
        json!({"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": waiting});
    let status = json!({"phase": phase, "conditions": [condition], "containerStatuses": [container]});
    let pod = json!({"metadata": meta, "spec": {"containers": []}, "status": status});
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn view<'a>(set: &'a StatefulSet, current: &str, pods: Vec<Arc<Pod>>) -> View<'a> {
    let spec = set.spec.as_ref().expect("a spec");
    let revision = |name: &str| Revision { name: name.to_owned(), template: spec.template.clone() };
    let own = |pod: Arc<Pod>| (identity::ordinal(set, &pod.name_any()).expect("an ordinal"), pod);
    View {
        set,
        spec,
        pods: pods.into_iter().map(own).collect(),
        claims: BTreeMap::new(),
        current: revision(current),
        update: revision("new"),
        held: BTreeMap::new(),
        collisions: 0,
    }
}

fn planned(view: &View<'_>) -> Plan {
    plan(view, "2026-01-01T01:00:00Z".parse().expect("a time"))
}

fn show(set: &StatefulSet, current: &str, words: &str) -> String {
    let plan = planned(&view(set, current, pods(words)));
    let revision = |pod: &Pod| pod.labels().get("controller-revision-hash").cloned().unwrap_or_default();
    let created = plan.create.iter().map(|pod| format!("create {} {}", pod.name_any(), revision(pod)));
    let deleted = plan.delete.iter().map(|(pod, why)| format!("delete {} {why:?}", pod.name_any()));
    let mut lines: Vec<String> = created.chain(deleted).collect();
    let status = &plan.status;
    let count = |count: Option<i32>| count.unwrap_or(0);
    lines.push(format!(
        "{}/{}/{} ready/available, {} {}, {} updated",
        status.replicas,
        count(status.ready_replicas),
        count(status.available_replicas),
        count(status.current_replicas),
        status.current_revision.as_deref().unwrap_or_default(),
        count(status.updated_replicas),
    ));
    lines.extend(plan.again.map(|again| format!("again in {again:?}")));
    lines.join("; ")
}

#[test]
fn an_ordered_set_comes_up_pod_by_pod() {
    let set = set(json!({}));
    let lines =
        ["", "0newp", "0new-", "0new", "0new 1new", "0new 1new 2new", "0new 2new"].map(|pods| show(&set, "new", pods));
    expect_test::expect![[r#"
        create db-0 new; 0/0/0 ready/available, 0 new, 0 updated
        1/0/0 ready/available, 1 new, 1 updated
        1/0/0 ready/available, 1 new, 1 updated
        create db-1 new; 1/1/1 ready/available, 1 new, 1 updated
        create db-2 new; 2/2/2 ready/available, 2 new, 2 updated
        3/3/3 ready/available, 3 new, 3 updated
        create db-1 new; 2/2/2 ready/available, 2 new, 2 updated"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn it_waits_until_a_pod_has_been_ready_for_long_enough() {
    let set = set(json!({"minReadySeconds": 30}));
    let wanted = "1/1/0 ready/available, 1 new, 1 updated; again in 25s";
    assert_eq!(show(&set, "new", "0newy"), wanted);
}

#[test]
fn an_ordered_set_shrinks_from_the_top_and_not_while_others_are_ill() {
    let one = set(json!({"replicas": 1}));
    let none = set(json!({"replicas": 0}));
    let lines = [
        show(&one, "new", "0new 1new 2new"),
        show(&one, "new", "0new 1new 2newx"),
        show(&one, "new", "0new- 1new 2new"),
        show(&one, "new", "0new 1new- 2new"),
        // All are ill: the one at the top is not the first that is.
        show(&none, "new", "0new- 1new- 2new-"),
        show(&none, "new", "0new-"),
        show(&one, "new", "0new 1new 2new-"),
    ];
    expect_test::expect![[r#"
        delete db-2 Scaled; 3/3/3 ready/available, 3 new, 3 updated
        3/3/3 ready/available, 2 new, 2 updated
        3/2/2 ready/available, 3 new, 3 updated
        delete db-2 Scaled; 3/2/2 ready/available, 3 new, 3 updated
        3/0/0 ready/available, 3 new, 3 updated
        delete db-0 Scaled; 1/0/0 ready/available, 1 new, 1 updated
        delete db-2 Scaled; 3/2/2 ready/available, 3 new, 3 updated"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn a_parallel_set_does_all_at_once() {
    let parallel = |replicas: i32| set(json!({"podManagementPolicy": "Parallel", "replicas": replicas}));
    let lines = [
        show(&parallel(3), "new", "1newp"),
        show(&parallel(1), "new", "0new- 1new- 2new-"),
        show(&parallel(2), "new", "0newf 1new 2new"),
    ];
    expect_test::expect![[r#"
        create db-0 new; create db-2 new; 1/0/0 ready/available, 1 new, 1 updated
        delete db-2 Scaled; delete db-1 Scaled; 3/0/0 ready/available, 3 new, 3 updated
        delete db-0 Failed; delete db-2 Scaled; 3/2/2 ready/available, 3 new, 3 updated"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn a_rolling_update_goes_from_the_top_one_by_one() {
    let set = set(json!({}));
    let words =
        ["0old 1old 2old", "0old 1old 2oldx", "0old 1old", "0old 1old 2new-", "0old 1old 2new", "0new 1new 2new"];
    let lines = words.map(|pods| show(&set, "old", pods));
    expect_test::expect![[r#"
        delete db-2 Outdated; 3/3/3 ready/available, 3 old, 0 updated
        3/3/3 ready/available, 2 old, 0 updated
        create db-2 new; 2/2/2 ready/available, 2 old, 0 updated
        3/2/2 ready/available, 2 old, 1 updated
        delete db-1 Outdated; 3/3/3 ready/available, 2 old, 1 updated
        3/3/3 ready/available, 3 new, 3 updated"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn partitions_hold_pods_back_and_on_delete_holds_all() {
    let rolling = |partition: i32, max: Value| {
        set(json!({"updateStrategy": {"rollingUpdate": {"partition": partition, "maxUnavailable": max}}}))
    };
    let on_delete = set(json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}));
    let lines = [
        show(&rolling(2, json!(1)), "old", "0old 1old 2old"),
        show(&rolling(2, json!(1)), "old", "0old 1old 2new"),
        // Who goes in the middle of it comes back as what it was.
        show(&rolling(2, json!(1)), "old", "0old 2new"),
        show(&rolling(9, json!(1)), "old", "0old 1old"),
        show(&rolling(0, json!(2)), "old", "0old 1old 2old"),
        show(&rolling(0, json!("67%")), "old", "0old 1old 2old"),
        show(&rolling(0, json!("1%")), "old", "0old 1old 2old"),
        show(&on_delete, "old", "0old 1old 2old"),
        show(&on_delete, "old", "0old 2old"),
    ];
    expect_test::expect![[r#"
        delete db-2 Outdated; 3/3/3 ready/available, 3 old, 0 updated
        3/3/3 ready/available, 2 old, 1 updated
        create db-1 old; 2/2/2 ready/available, 1 old, 1 updated
        create db-2 old; 2/2/2 ready/available, 2 old, 0 updated
        delete db-2 Outdated; delete db-1 Outdated; 3/3/3 ready/available, 3 old, 0 updated
        delete db-2 Outdated; delete db-1 Outdated; 3/3/3 ready/available, 3 old, 0 updated
        delete db-2 Outdated; 3/3/3 ready/available, 3 old, 0 updated
        3/3/3 ready/available, 3 old, 0 updated
        create db-1 new; 2/2/2 ready/available, 2 old, 0 updated"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn what_never_came_up_does_not_block_the_way_back() {
    let (ordered, parallel) = (set(json!({})), set(json!({"podManagementPolicy": "Parallel"})));
    let on_delete = set(json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}));
    let lines = [
        // Undone: what db-2 was to become is neither what was nor what is to be.
        show(&ordered, "new", "0new 1new 2bad-"),
        // Broken from the beginning, and mended.
        show(&ordered, "bad", "0badp"),
        show(&ordered, "bad", "0badc"),
        // A pod of the last complete rollout that is ill for now is waited for: it has a state to lose.
        show(&ordered, "old", "0old 1old- 2old"),
        show(&on_delete, "new", "0new 1new 2bad-"),
        // In parallel the ill cost nothing.
        show(&parallel, "old", "0old- 1old- 2old"),
    ];
    expect_test::expect![[r#"
        delete db-2 Outdated; 3/2/2 ready/available, 2 new, 2 updated
        delete db-0 Outdated; 1/0/0 ready/available, 1 bad, 0 updated
        delete db-0 Outdated; 1/0/0 ready/available, 1 bad, 0 updated
        3/2/2 ready/available, 3 old, 0 updated
        3/2/2 ready/available, 2 new, 2 updated
        delete db-1 Outdated; delete db-0 Outdated; 3/1/1 ready/available, 3 old, 0 updated"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn what_has_ended_is_replaced_but_not_in_a_hot_loop() {
    let set = set(json!({}));
    assert_eq!(show(&set, "new", "0newf"), "delete db-0 Failed; 1/0/0 ready/available, 1 new, 1 updated");
    assert_eq!(show(&set, "new", "0news"), "delete db-0 Ended; 1/0/0 ready/available, 1 new, 1 updated");
    let mut held = view(&set, "new", pods("0newf"));
    held.held.insert("uid-0".to_owned(), Duration::from_secs(8));
    let plan = planned(&held);
    assert!(plan.delete.is_empty());
    assert_eq!(plan.again, Some(Duration::from_secs(8)));
}

#[test]
fn ordinals_begin_where_they_are_told_to() {
    let set = set(json!({"ordinals": {"start": 5}}));
    let wanted = "create db-5 new; 1/1/1 ready/available, 1 new, 1 updated";
    assert_eq!(show(&set, "new", "0new"), wanted);
    let wanted = "delete db-0 Scaled; 4/4/4 ready/available, 4 new, 4 updated";
    assert_eq!(show(&set, "new", "0new 5new 6new 7new"), wanted);
}

#[test]
fn a_pod_has_its_name_everywhere_and_its_own_volumes() {
    let template =
        json!({"metadata": {"name": "data", "labels": {"tier": "disk"}}, "spec": {"accessModes": ["ReadWriteOnce"]}});
    let volumes = json!([{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]);
    let set = set(json!({"volumeClaimTemplates": [template], "template": {"spec": {"volumes": volumes}}}));
    let plan = planned(&view(&set, "new", vec![]));
    let pod = serde_json::to_value(&plan.create[0]).expect("a pod");
    assert_eq!(
        pod["metadata"]["labels"],
        json!({"app": "db", "apps.kubernetes.io/pod-index": "0",
        "controller-revision-hash": "new", "statefulset.kubernetes.io/pod-name": "db-0"})
    );
    assert_eq!((&pod["spec"]["hostname"], &pod["spec"]["subdomain"]), (&json!("db-0"), &json!("dbs")));
    assert_eq!(
        pod["spec"]["volumes"],
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}},
        {"name": "tmp", "emptyDir": {}}])
    );
    let [(owner, claim)] = &*plan.claims else { panic!("{:?}", plan.claims) };
    assert_eq!((owner.as_str(), claim.name_any().as_str()), ("db-0", "data-db-0"));
    assert_eq!(serde_json::to_value(claim.labels()).expect("labels"), json!({"app": "db", "tier": "disk"}));
    assert_eq!(claim.metadata.owner_references, None);
}

#[test]
fn claims_go_with_whom_the_policy_says() {
    let claim = |name: &str, owners: Value| -> (String, Arc<PersistentVolumeClaim>) {
        let claim = json!({"metadata": {"name": name, "uid": name, "ownerReferences": owners}});
        (name.to_owned(), Arc::new(serde_json::from_value(claim).expect("a claim")))
    };
    let by = |kind: &str, name: &str, uid: &str| {
        json!({"apiVersion": if kind == "Pod" { "v1" } else { "apps/v1" }, "kind": kind, "name": name, "uid": uid,
            "controller": true, "blockOwnerDeletion": true})
    };
    let (set_ref, pod_ref) = (by("StatefulSet", "db", "set"), by("Pod", "db-1", "uid-1"));
    let mut lines = Vec::new();
    for (deleted, scaled) in [("Retain", "Retain"), ("Delete", "Retain"), ("Retain", "Delete"), ("Delete", "Delete")] {
        let policy = json!({"whenDeleted": deleted, "whenScaled": scaled});
        let set = set(json!({"replicas": 1, "persistentVolumeClaimRetentionPolicy": policy,
            "volumeClaimTemplates": [{"metadata": {"name": "d"}, "spec": {}}]}));
        for owners in [json!([]), json!([set_ref]), json!([pod_ref]), json!([by("Backup", "b", "b")])] {
            let mut view = view(&set, "new", pods("0new 1new"));
            view.claims = BTreeMap::from([claim("d-db-0", json!([])), claim("d-db-1", owners.clone())]);
            let change = |(name, patch): &(String, Value)| {
                let changes = patch["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
                let sign = |one: &Value| if one.get("$patch").is_some() { "-" } else { "+" };
                let changes: Vec<String> =
                    changes.iter().map(|one| format!("{}{}", sign(one), one["uid"].as_str().unwrap_or("?"))).collect();
                format!("{name} {}", changes.join(" "))
            };
            let had = owners[0]["uid"].as_str().unwrap_or("nobody").to_owned();
            let plan = planned(&view);
            let changes: Vec<String> = plan.own.iter().map(change).collect();
            lines.push(format!("{deleted}/{scaled}, db-1's of {had}: {}", changes.join(", ")));
        }
    }
    expect_test::expect![[r#"
        Retain/Retain, db-1's of nobody: 
        Retain/Retain, db-1's of set: d-db-1 -set
        Retain/Retain, db-1's of uid-1: d-db-1 -uid-1
        Retain/Retain, db-1's of b: 
        Delete/Retain, db-1's of nobody: d-db-0 +set, d-db-1 +set
        Delete/Retain, db-1's of set: d-db-0 +set
        Delete/Retain, db-1's of uid-1: d-db-0 +set, d-db-1 -uid-1 +set
        Delete/Retain, db-1's of b: d-db-0 +set
        Retain/Delete, db-1's of nobody: d-db-1 +uid-1
        Retain/Delete, db-1's of set: d-db-1 -set +uid-1
        Retain/Delete, db-1's of uid-1: 
        Retain/Delete, db-1's of b: 
        Delete/Delete, db-1's of nobody: d-db-0 +set, d-db-1 +uid-1
        Delete/Delete, db-1's of set: d-db-0 +set, d-db-1 -set +uid-1
        Delete/Delete, db-1's of uid-1: d-db-0 +set
        Delete/Delete, db-1's of b: d-db-0 +set"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn a_pod_waits_for_claims_that_are_about_to_go() {
    let set = set(json!({"volumeClaimTemplates": [{"metadata": {"name": "d"}, "spec": {}}]}));
    let with = |meta: Value| {
        let mut view = view(&set, "new", vec![]);
        let claim = serde_json::from_value(json!({"metadata": meta})).expect("a claim");
        view.claims.insert("d-db-0".to_owned(), Arc::new(claim));
        let plan = planned(&view);
        (plan.create.len(), plan.claims.len())
    };
    let dead = json!([{"apiVersion": "v1", "kind": "Pod", "name": "db-0", "uid": "gone"}]);
    assert_eq!(with(json!({"name": "d-db-0"})), (1, 0));
    assert_eq!(with(json!({"name": "d-db-0", "ownerReferences": dead})), (0, 0));
    assert_eq!(with(json!({"name": "d-db-0", "deletionTimestamp": "2026-01-01T00:00:00Z"})), (0, 0));
}

#[test]
fn a_set_that_is_being_deleted_does_nothing() {
    let mut set = set(json!({}));
    set.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).ok();
    assert_eq!(show(&set, "new", "0newf"), "1/0/0 ready/available, 1 new, 1 updated");
}
