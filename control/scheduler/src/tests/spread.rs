//! Pods spread over zones and nodes.

use serde_json::{Value, json};

use super::{World, node, node_in, pod};

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";

fn constraint(topology: &str, more: Value) -> Value {
    let mut constraint = json!({"topologyKey": topology, "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}}});
    for (key, value) in more.as_object().into_iter().flatten() {
        constraint[key] = value.clone();
    }
    json!({"labels": {"app": "web", "version": "2"}, "topologySpreadConstraints": [constraint]})
}

/// Two zones with one and two nodes, and pods on them by node.
fn world(pods: &[(&str, usize)]) -> World {
    let mut world = World::new();
    [node_in("x", "a", "8"), node_in("y", "b", "8"), node_in("y", "c", "8")].iter().for_each(|node| world.node(node));
    for (node, count) in pods {
        for number in 0..*count {
            world.placed(node, pod(&format!("{node}-{number}"), json!({"labels": {"app": "web", "version": "1"}})));
        }
    }
    world
}

#[test]
fn no_zone_has_more_than_the_others_by_more_than_is_allowed() {
    const SKEWED: &str = "node(s) didn't match pod topology spread constraints";
    assert_eq!(world(&[("b", 1), ("c", 1)]).try_pod(constraint(ZONE, json!({}))), "a");
    assert_eq!(world(&[("a", 1), ("b", 1), ("c", 1)]).try_pod(constraint(ZONE, json!({}))), "a");
    let mut skewed = world(&[("b", 1), ("c", 1)]);
    let mut stuck = constraint(ZONE, json!({}));
    stuck["nodeSelector"] = json!({HOST: "b"});
    // Only zone y counts for a pod that goes nowhere else.
    assert_eq!(skewed.try_pod(stuck.clone()), "b");
    stuck["topologySpreadConstraints"][0]["nodeAffinityPolicy"] = "Ignore".into();
    let line = skewed.try_pod(stuck);
    assert!(line.contains(&format!("1 {SKEWED}")), "{line}");
    // Fewer domains than wanted: as if there were an empty one.
    let line = world(&[("a", 1), ("b", 1)]).try_pod(constraint(ZONE, json!({"minDomains": 3})));
    assert!(line.contains(&format!("3 {SKEWED}")), "{line}");
    assert!(
        ["a", "b", "c"]
            .contains(&world(&[("a", 1), ("b", 1)]).try_pod(constraint(ZONE, json!({"minDomains": 2}))).as_str())
    );
    // Other versions do not count.
    let line = world(&[("a", 3)]).try_pod(constraint(ZONE, json!({"matchLabelKeys": ["version"]})));
    assert!(["a", "b", "c"].contains(&line.as_str()), "{line}");
}

#[test]
fn nodes_without_the_label_are_out_and_taints_count_if_asked() {
    let mut world = world(&[("b", 1), ("c", 1)]);
    world.node(&node("d", "8"));
    let mut tainted = node_in("z", "e", "8");
    tainted["spec"]["taints"] = json!([{"key": "k", "effect": "NoSchedule"}]);
    world.node(&tainted);
    // Zone z is empty, but no such pod can go there.
    let mut spec = constraint(ZONE, json!({"nodeTaintsPolicy": "Honor"}));
    assert_eq!(world.try_pod(spec.clone()), "a");
    world.placed("a", pod("a-0", json!({"labels": {"app": "web"}})));
    let line = world.try_pod(constraint(ZONE, json!({})));
    assert!(line.contains("1 node(s) didn't match pod topology spread constraints (missing required label)"), "{line}");
    assert!(line.contains("3 node(s) didn't match pod topology spread constraints."), "{line}");
    spec["topologySpreadConstraints"][0]["nodeTaintsPolicy"] = "Honor".into();
    assert_eq!(world.try_pod(spec), "a");
}

#[test]
fn replicas_spread_by_themselves() {
    let mut world = world(&[]);
    let set = corten_client::Key::new("default", "web");
    let selector = serde_json::from_value(json!({"matchLabels": {"app": "web"}})).expect("a selector");
    world.core.cache.workloads.set_owner("ReplicaSet", set, Some(crate::model::Selector::of(Some(&selector))));
    for number in 0..6 {
        let mut replica = pod(&format!("web-{number}"), json!({"labels": {"app": "web"}}));
        replica["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "set", "controller": true}]);
        world.pod(&replica);
    }
    let lines = world.decide_all();
    for node in ["a", "b", "c"] {
        assert_eq!(lines.lines().filter(|line| line.ends_with(node)).count(), 2, "{lines}");
    }
}

#[test]
fn what_is_only_preferred_gives_way() {
    let mut spec = constraint(ZONE, json!({"whenUnsatisfiable": "ScheduleAnyway"}));
    let mut one = world(&[("b", 2), ("c", 2)]);
    assert_eq!(one.try_pod(spec.clone()), "a");
    spec["nodeSelector"] = json!({HOST: "b"});
    assert_eq!(one.try_pod(spec), "b");
}

#[test]
fn pods_that_are_leaving_do_not_count() {
    let mut world = world(&[("a", 1)]);
    let mut leaving = pod("a-0", json!({"labels": {"app": "web", "version": "1"}}));
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    world.placed("b", pod("b-0", json!({"labels": {"app": "web"}})));
    world.placed("a", leaving);
    assert_eq!(world.try_pod(constraint(ZONE, json!({}))), "a");
}
