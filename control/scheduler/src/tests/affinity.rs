//! Pods near others, and apart from them.

use serde_json::{Value, json};

use super::{World, node_in, pod};

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";

fn term(topology: &str, app: &str) -> Value {
    json!({"topologyKey": topology, "labelSelector": {"matchLabels": {"app": app}}})
}

fn required(kind: &str, terms: Value) -> Value {
    json!({"labels": {"app": "own"}, "affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})
}

fn preferred(kind: &str, term: Value) -> Value {
    json!({"labels": {"app": "own"}, "affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 100, "podAffinityTerm": term}]}}})
}

/// Two zones with two nodes each.
fn world() -> World {
    let mut world = World::new();
    [("x", "a"), ("x", "b"), ("y", "c"), ("y", "d")]
        .iter()
        .for_each(|(zone, name)| world.node(&node_in(zone, name, "8")));
    world
}

#[test]
fn near_and_apart() {
    let mut world = world();
    world.placed("c", pod("db", json!({"labels": {"app": "db"}})));
    let near = |topology| required("podAffinity", json!([term(topology, "db")]));
    let apart = |topology| required("podAntiAffinity", json!([term(topology, "db")]));
    assert_eq!(world.try_pod(near(HOST)), "c");
    assert!(["c", "d"].contains(&world.try_pod(near(ZONE)).as_str()));
    assert!(["a", "b"].contains(&world.try_pod(apart(ZONE)).as_str()));
    let both = json!([term(HOST, "db"), term(HOST, "cache")]);
    let line = world.try_pod(required("podAffinity", both));
    assert!(line.contains("4 node(s) didn't match pod affinity rules"), "{line}");
    for node in ["a", "b", "d"] {
        world.placed(node, pod(node, json!({"labels": {"app": "db"}})));
    }
    let line = world.try_pod(apart(HOST));
    assert!(line.contains("4 node(s) didn't match pod anti-affinity rules"), "{line}");
}

#[test]
fn the_first_of_a_group_needs_no_company() {
    let mut world = world();
    let own = || required("podAffinity", json!([term(ZONE, "own")]));
    world.pod(&pod("one", own()));
    let first = world.decide_all();
    let zone = if first.ends_with('a') || first.ends_with('b') { ["a", "b"] } else { ["c", "d"] };
    for number in 0..4 {
        let line = world.try_pod(own());
        assert!(zone.contains(&line.as_str()), "{number}: {line}");
    }
    let line = world.try_pod(required("podAffinity", json!([term(ZONE, "nobody")])));
    assert!(line.contains("4 node(s) didn't match pod affinity rules"), "{line}");
}

#[test]
fn those_who_are_there_may_keep_others_away() {
    let mut world = world();
    world.placed("a", pod("hermit", required("podAntiAffinity", json!([term(ZONE, "own")]))));
    world.placed("c", pod("other", required("podAntiAffinity", json!([term(ZONE, "own")]))));
    let line = world.try_pod(json!({"labels": {"app": "own"}}));
    assert!(line.contains("4 node(s) didn't satisfy existing pods anti-affinity rules"), "{line}");
    world.gone("hermit");
    assert!(["a", "b"].contains(&world.try_pod(json!({"labels": {"app": "own"}})).as_str()));
}

#[test]
fn preferences_work_both_ways() {
    let mut world = world();
    world.placed("d", pod("db", json!({"labels": {"app": "db"}})));
    assert_eq!(world.try_pod(preferred("podAffinity", term(HOST, "db"))), "d");
    assert!(["a", "b"].contains(&world.try_pod(preferred("podAntiAffinity", term(ZONE, "db"))).as_str()));
    // A pod that is there wants company, or asks for it.
    for spec in [preferred("podAffinity", term(HOST, "guest")), required("podAffinity", json!([term(HOST, "guest")]))] {
        let mut world = super::affinity::world();
        world.placed("b", pod("host", spec));
        assert_eq!(world.try_pod(json!({"labels": {"app": "guest"}})), "b");
    }
}

#[test]
fn namespaces_are_named_or_selected() {
    let mut world = world();
    world.namespace("blue", &[("team", "blue")]);
    let mut db = pod("db", json!({"labels": {"app": "db"}}));
    db["metadata"]["namespace"] = "blue".into();
    world.placed("b", db);
    let with = |key: &str, value: Value| {
        let mut term = term(HOST, "db");
        term[key] = value;
        required("podAffinity", json!([term]))
    };
    let alone = "4 node(s) didn't match pod affinity rules";
    assert!(world.try_pod(required("podAffinity", json!([term(HOST, "db")]))).contains(alone), "its own namespace");
    assert_eq!(world.try_pod(with("namespaces", json!(["blue"]))), "b");
    assert_eq!(world.try_pod(with("namespaceSelector", json!({}))), "b");
    let team = json!({"matchLabels": {"team": "blue"}});
    assert_eq!(world.try_pod(with("namespaceSelector", team.clone())), "b");
    world.namespace("blue", &[("team", "red")]);
    assert!(world.try_pod(with("namespaceSelector", team)).contains(alone));
}

#[test]
fn keys_of_labels_select_the_same_or_others() {
    let mut world = world();
    world.placed("b", pod("one", json!({"labels": {"app": "own", "tenant": "t1"}})));
    let with = |key: &str| {
        let mut term = term(HOST, "own");
        term[key] = json!(["tenant"]);
        let mut spec = required("podAffinity", json!([term]));
        spec["labels"]["tenant"] = "t1".into();
        spec
    };
    assert_eq!(world.try_pod(with("matchLabelKeys")), "b");
    assert!(world.try_pod(with("mismatchLabelKeys")).contains("4 node(s) didn't match pod affinity rules"));
}
