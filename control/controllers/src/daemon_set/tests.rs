//! DaemonSets, row by row.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corten_api::api::apps::v1::DaemonSet;
use corten_api::api::core::v1::{Node, Pod};
use corten_api::placement::target;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::plan::{Plan, View, plan};
use super::template::{Verdict, template, verdict};

fn set(unavailable: Value, surge: Value) -> DaemonSet {
    let rolling = json!({"maxUnavailable": unavailable, "maxSurge": surge});
    let strategy = if unavailable.is_null() {
        json!({"type": "OnDelete"})
    } else {
        json!({"type": "RollingUpdate", "rollingUpdate": rolling})
    };
    let object = json!({
        "metadata": {"name": "agent", "namespace": "a", "uid": "set", "generation": 1,
            "annotations": {"deprecated.daemonset.template.generation": "7"}},
        "spec": {"selector": {"matchLabels": {"app": "agent"}}, "updateStrategy": strategy,
            "template": {"metadata": {"labels": {"app": "agent"}},
                "spec": {"nodeSelector": {"role": "worker"}, "containers": [{"name": "c"}]}}},
    });
    serde_json::from_value(object).expect("a set")
}

/// A node as a word: `a` is a worker, `a!` repels with NoExecute, `a?` with NoSchedule, `a-` is no worker.
fn node(word: &str) -> Arc<Node> {
    let (name, mark) = word.split_at(1);
    let taint = |effect: &str| json!([{"key": "sick", "effect": effect}]);
    let taints = match mark {
        "!" => taint("NoExecute"),
        "?" => taint("NoSchedule"),
        _ => json!([]),
    };
    let labels = if mark == "-" { json!({}) } else { json!({"role": "worker"}) };
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}}))
            .expect("a node"),
    )
}

/// A pod as a word: `a1new` is pod 1 of node a, of the new template and ready; `-` after it unready, `x` ending,
/// `f` failed, `s` succeeded, `p` not placed yet.
fn pod(word: &str) -> Arc<Pod> {
    let (node, rest) = word.split_at(1);
    let (number, rest) = rest.split_at(1);
    let (hash, mark) = rest.split_at(3);
    let ready = if ["", "x"].contains(&mark) { "True" } else { "False" };
    let phase = match mark {
        "f" => "Failed",
        "s" => "Succeeded",
        "p" => "Pending",
        _ => "Running",
    };
    let name = format!("{node}{number}");
    let mut meta = json!({"name": name, "uid": name, "labels": {"app": "agent", "controller-revision-hash": hash},
        "creationTimestamp": format!("2026-01-01T00:00:0{number}Z")});
    if mark == "x" {
        meta["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    let term = json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]);
    let affinity =
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": term}}});
    let mut spec = json!({"containers": [], "affinity": affinity});
    if mark != "p" {
        spec["nodeName"] = node.into();
    }
    let condition = json!({"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let pod = json!({"metadata": meta, "spec": spec, "status": {"phase": phase, "conditions": [condition]}});
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn view<'a>(set: &'a DaemonSet, nodes: &str, pods: &str) -> View<'a> {
    View {
        set,
        spec: set.spec.as_ref().expect("a spec"),
        nodes: nodes.split_whitespace().map(node).collect(),
        pods: pods.split_whitespace().map(pod).collect(),
        hash: "new",
        collisions: None,
        held: BTreeMap::new(),
    }
}

fn planned(view: &View<'_>) -> Plan {
    plan(view, "2026-01-01T01:00:00Z".parse().expect("a time"))
}

fn show(set: &DaemonSet, nodes: &str, pods: &str) -> String {
    let plan = planned(&view(set, nodes, pods));
    let node_of = |pod: &Pod| pod.spec.as_ref().and_then(target).unwrap_or("nowhere").to_owned();
    let mut words: Vec<String> = plan.create.iter().map(|pod| format!("create on {}", node_of(pod))).collect();
    words.extend(plan.delete.iter().map(|pod| format!("delete {}", pod.name_any())));
    let status = &plan.status;
    words.push(format!(
        "{} desired, {} there, {} updated, {} available, {} misplaced",
        status.desired_number_scheduled,
        status.current_number_scheduled,
        status.updated_number_scheduled.unwrap_or(0),
        status.number_available.unwrap_or(0),
        status.number_misscheduled,
    ));
    words.join("; ")
}

#[test]
fn every_node_that_fits_has_one_pod() {
    let set = set(json!(1), json!(0));
    let lines = [
        show(&set, "a b- c", ""),
        show(&set, "a b- c", "a1new b1new"),
        show(&set, "a! b? c?", "a1new b1new"),
        // The older of two stays; one that is placed before one that is not.
        show(&set, "a b", "a1new a2new b1newp b2new"),
        // What is ending holds its place until it is gone.
        show(&set, "a", "a1newx"),
        show(&set, "a b c", "a1newf b1news c1new"),
        // The node is gone: what waits for it goes too, what runs there is not ours to end.
        show(&set, "a", "a1new z1newp y1new"),
    ];
    expect_test::expect![[r#"
        create on a; create on c; 2 desired, 0 there, 0 updated, 0 available, 0 misplaced
        create on c; delete b1; 2 desired, 1 there, 1 updated, 1 available, 1 misplaced
        delete a1; 0 desired, 0 there, 0 updated, 0 available, 2 misplaced
        delete a2; delete b1; 2 desired, 2 there, 2 updated, 2 available, 0 misplaced
        1 desired, 1 there, 1 updated, 1 available, 0 misplaced
        delete a1; delete b1; 3 desired, 3 there, 3 updated, 1 available, 0 misplaced
        delete z1; 1 desired, 1 there, 1 updated, 1 available, 0 misplaced"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn a_rolling_update_keeps_enough_nodes_served() {
    let lines = [
        show(&set(json!(1), json!(0)), "a b c", "a1old b1old c1old"),
        show(&set(json!(1), json!(0)), "a b c", "a1oldx b1old c1old"),
        show(&set(json!(1), json!(0)), "a b c", "b1old c1old"),
        show(&set(json!(1), json!(0)), "a b c", "a1new- b1old c1old"),
        show(&set(json!(1), json!(0)), "a b c", "a1new b1old c1old"),
        show(&set(json!("50%"), json!(0)), "a b c", "a1old b1old c1old"),
        // What does not serve goes at once.
        show(&set(json!(1), json!(0)), "a b c", "a1old- b1old- c1old"),
        // A pod on a node that would get no other one stays.
        show(&set(json!(1), json!(0)), "a? b c", "a1old b1new c1new"),
        show(&set(json!(null), json!(0)), "a b c", "a1old b1old c1old"),
        show(&set(json!(0), json!(0)), "a b c", "a1old b1old c1old"),
    ];
    expect_test::expect![[r#"
        delete a1; 3 desired, 3 there, 0 updated, 3 available, 0 misplaced
        3 desired, 3 there, 0 updated, 3 available, 0 misplaced
        create on a; 3 desired, 2 there, 0 updated, 2 available, 0 misplaced
        3 desired, 3 there, 1 updated, 2 available, 0 misplaced
        delete b1; 3 desired, 3 there, 1 updated, 3 available, 0 misplaced
        delete a1; delete b1; 3 desired, 3 there, 0 updated, 3 available, 0 misplaced
        delete a1; delete b1; 3 desired, 3 there, 0 updated, 1 available, 0 misplaced
        2 desired, 2 there, 2 updated, 2 available, 1 misplaced
        3 desired, 3 there, 0 updated, 3 available, 0 misplaced
        delete a1; 3 desired, 3 there, 0 updated, 3 available, 0 misplaced"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn a_surge_lets_the_new_pod_take_over_from_the_old_one() {
    let surge = |most: Value| set(json!(0), most);
    let lines = [
        show(&surge(json!(1)), "a b c", "a1old b1old c1old"),
        show(&surge(json!(1)), "a b c", "a1old a2new- b1old c1old"),
        show(&surge(json!(1)), "a b c", "a1old a2new b1old c1old"),
        show(&surge(json!("67%")), "a b c", "a1old b1old c1old"),
        // An old one that does not serve is replaced without counting.
        show(&surge(json!(1)), "a b c", "a1old- b1old c1old"),
        show(&surge(json!(1)), "a b c", "a1old- a2new- b1old c1old"),
        show(&surge(json!(1)), "a", "a1old a2new a3new"),
    ];
    expect_test::expect![[r#"
        create on a; 3 desired, 3 there, 0 updated, 3 available, 0 misplaced
        3 desired, 3 there, 0 updated, 3 available, 0 misplaced
        delete a1; 3 desired, 3 there, 0 updated, 3 available, 0 misplaced
        create on a; create on b; create on c; 3 desired, 3 there, 0 updated, 3 available, 0 misplaced
        create on a; create on b; 3 desired, 3 there, 0 updated, 2 available, 0 misplaced
        delete a1; 3 desired, 3 there, 0 updated, 2 available, 0 misplaced
        delete a1; delete a3; 1 desired, 1 there, 0 updated, 1 available, 0 misplaced"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn a_node_that_refuses_pods_is_not_asked_in_a_hot_loop() {
    let set = set(json!(1), json!(0));
    let mut held = view(&set, "a", "a1newf");
    held.held.insert("a1".to_owned(), Duration::from_secs(4));
    let plan = planned(&held);
    assert!(plan.delete.is_empty() && plan.create.is_empty());
    assert_eq!(plan.again, Some(Duration::from_secs(4)));
}

#[test]
fn a_pod_of_the_current_generation_is_new_whatever_its_hash() {
    let set = set(json!(1), json!(0));
    let mut view = view(&set, "a", "a1old");
    let labels = Arc::make_mut(&mut view.pods[0]).metadata.labels.get_or_insert_default();
    labels.insert("pod-template-generation".to_owned(), "7".to_owned());
    let plan = planned(&view);
    assert!(plan.delete.is_empty());
    assert_eq!(plan.status.updated_number_scheduled, Some(1));
}

#[test]
fn daemon_pods_tolerate_what_others_do_not() {
    let set = set(json!(1), json!(0));
    let template = template(&set, "new");
    let spec = template.spec.clone().expect("a spec");
    let tainted = |key: &str, effect: &str| {
        let mut node = (*node("a")).clone();
        let taints = json!([{"key": key, "effect": effect}]);
        node.spec.get_or_insert_default().taints = serde_json::from_value(taints).ok();
        verdict(&spec, &node)
    };
    for (key, effect, wanted) in [
        ("node.kubernetes.io/not-ready", "NoExecute", Verdict::Runs),
        ("node.kubernetes.io/unschedulable", "NoSchedule", Verdict::Runs),
        ("node.kubernetes.io/disk-pressure", "NoSchedule", Verdict::Runs),
        ("node.kubernetes.io/not-ready", "NoSchedule", Verdict::Keeps),
        ("node.kubernetes.io/network-unavailable", "NoSchedule", Verdict::Keeps),
        ("mine", "NoExecute", Verdict::Not),
        ("mine", "PreferNoSchedule", Verdict::Runs),
    ] {
        assert_eq!(tainted(key, effect), wanted, "{key} {effect}");
    }
    let labels = template.metadata.and_then(|meta| meta.labels).unwrap_or_default();
    assert_eq!(labels.get("pod-template-generation").map(String::as_str), Some("7"));
    assert_eq!(labels.get("controller-revision-hash").map(String::as_str), Some("new"));
    let mut set = set;
    set.spec.as_mut().and_then(|spec| spec.template.spec.as_mut()).expect("a spec").host_network = Some(true);
    let spec = super::template::template(&set, "new").spec.expect("a spec");
    let keys = spec.tolerations.iter().flatten().filter_map(|own| own.key.as_deref());
    assert!(keys.into_iter().any(|key| key == "node.kubernetes.io/network-unavailable"));
}
