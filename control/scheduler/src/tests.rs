//! Where pods go, and why not.

use corten_api::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use crate::schedule::schedule;
use crate::snapshot::{NodeInfo, PodInfo};

fn node(name: &str, cpu: &str, spec: Value) -> NodeInfo {
    let object = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "disk": if name == "a" { "ssd" } else { "hdd" }}},
        "spec": spec,
        "status": {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "3"}},
    });
    let node: Node = serde_json::from_value(object).expect("a node");
    NodeInfo::of(&node)
}

fn pod(spec: &Value) -> PodInfo {
    let mut spec = spec.clone();
    if spec["containers"].is_null() {
        spec["containers"] = json!([{"name": "c"}]);
    }
    let owner =
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "set", "controller": true}]);
    let pod: Pod =
        serde_json::from_value(json!({"metadata": {"ownerReferences": owner}, "spec": spec})).expect("a pod");
    PodInfo::of(&pod)
}

fn asking(cpu: &str) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]})
}

fn show(spec: &Value, nodes: &[NodeInfo]) -> String {
    match schedule(&pod(spec), nodes, 0) {
        Ok(node) => node.to_owned(),
        Err(unfit) => unfit.to_string(),
    }
}

#[test]
fn pods_go_where_they_fit() {
    let nodes = [
        node("a", "2", json!({})),
        node("b", "4", json!({"taints": [{"key": "dedicated", "value": "x", "effect": "NoSchedule"}]})),
        node("c", "8", json!({"unschedulable": true})),
    ];
    let tolerant =
        json!({"tolerations": [{"key": "dedicated", "operator": "Exists"}], "nodeSelector": {"disk": "hdd"}});
    let affinity = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "NotIn", "values": ["ssd"]}]}]}}}});
    let init = json!({"initContainers": [{"name": "i", "resources": {"requests": {"cpu": "3"}}}], "containers": [{"name": "c"}]});
    let lines = [
        show(&json!({}), &nodes),
        show(&tolerant, &nodes),
        show(&asking("3"), &nodes),
        show(&affinity, &nodes),
        show(&init, &nodes[..1]),
        show(&json!({}), &[]),
    ];
    expect_test::expect![[r#"
        a
        b
        0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {dedicated: x}, 1 node(s) were unschedulable. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.
        0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint {dedicated: x}, 1 node(s) were unschedulable. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.
        0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.
        no nodes available to schedule pods"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn replicas_spread_and_nodes_fill_up() {
    let mut nodes = [node("a", "2", json!({})), node("b", "2", json!({}))];
    let spec = asking("100m");
    let mut placed = Vec::new();
    for _ in 0..6 {
        let name = show(&spec, &nodes);
        nodes.iter_mut().find(|node| node.name == name).expect("a node").add(&pod(&spec));
        placed.push(name);
    }
    assert_eq!(placed, ["a", "b", "a", "b", "a", "b"]);
    assert!(show(&spec, &nodes).starts_with("0/2 nodes are available: 2 Too many pods."));
}

#[test]
fn a_port_of_the_host_has_one_user() {
    let mut nodes = [node("a", "2", json!({}))];
    let spec = json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]});
    assert_eq!(show(&spec, &nodes), "a");
    nodes[0].add(&pod(&spec));
    assert!(show(&spec, &nodes).contains("1 node(s) didn't have free ports for the requested pod ports"));
}
