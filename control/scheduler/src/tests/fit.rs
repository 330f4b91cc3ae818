//! Nodes that cannot take a pod, and what is said of them.

use serde_json::json;

use super::{World, asking, node, pod};

fn world() -> World {
    let mut world = World::new();
    let mut tainted = node("b", "4");
    tainted["spec"]["taints"] = json!([{"key": "dedicated", "value": "x", "effect": "NoSchedule"}]);
    tainted["metadata"]["labels"]["disk"] = "hdd".into();
    tainted["metadata"]["labels"]["size"] = "7".into();
    let mut cordoned = node("c", "8");
    cordoned["spec"]["unschedulable"] = true.into();
    cordoned["status"]["allocatable"]["example.com/gpu"] = "2".into();
    [node("a", "2"), tainted, cordoned].iter().for_each(|node| world.node(node));
    world
}

fn required(requirement: serde_json::Value) -> serde_json::Value {
    json!({"tolerations": [{"operator": "Exists"}], "affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [requirement]}}}})
}

#[test]
fn pods_go_where_they_fit_and_are_told_why_not() {
    let mut world = world();
    let expression = |key: &str, operator: &str, values: &[&str]| {
        required(json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}))
    };
    let gpus = |count: &str| json!({"tolerations": [{"operator": "Exists"}], "containers": [{"name": "c", "resources": {"requests": {"example.com/gpu": count}}}]});
    let lines = [
        world.try_pod(json!({})),
        world.try_pod(json!({"tolerations": [{"key": "dedicated", "operator": "Exists"}], "nodeSelector": {"disk": "hdd"}})),
        world.try_pod(asking("3")),
        world.try_pod(expression("disk", "NotIn", &["hdd"])),
        world.try_pod(expression("size", "Gt", &["6"])),
        world.try_pod(expression("size", "Lt", &["7"])),
        world.try_pod(required(json!({}))),
        world.try_pod(required(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["c"]}]}))),
        world.try_pod(json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["c"]}]}]}}}})),
        world.try_pod(gpus("2")),
        world.try_pod(gpus("3")),
        world.try_pod(json!({"preemptionPolicy": "Never", "nodeSelector": {"disk": "tape"}})),
        world.try_pod(json!({"resourceClaims": [{"name": "gpu", "resourceClaimName": "gpu"}]})),
        World::new().try_pod(json!({})),
    ];
    expect_test::expect![[r#"
        a
        b
        0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.
        c
        b
        0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.
        0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.
        c
        0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.
        c
        0/3 nodes are available: 3 Insufficient example.com/gpu. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.
        0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never.
        0/3 nodes are available: pods with resource claims cannot be scheduled by this cluster. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.
        no nodes available to schedule pods"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn demand_is_what_a_pod_needs_at_its_peak() {
    let fits = |spec: serde_json::Value, cpu: &str| {
        let line = World::new().nodes(&["a"], cpu).try_pod(spec);
        line == "a"
    };
    let container = |cpu: &str| json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
    let sidecar = |cpu: &str| json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}});
    let rows = [
        ("an init container before", json!({"initContainers": [container("3")], "containers": [container("1")]}), 3),
        ("a sidecar beside", json!({"initContainers": [sidecar("1")], "containers": [container("2")]}), 3),
        (
            "init after a sidecar",
            json!({"initContainers": [sidecar("1"), container("3")], "containers": [container("1")]}),
            4,
        ),
        (
            "init before a sidecar",
            json!({"initContainers": [container("3"), sidecar("1")], "containers": [container("1")]}),
            3,
        ),
        ("overhead", json!({"overhead": {"cpu": "1"}, "containers": [container("1")]}), 2),
        ("the pod as a whole", json!({"resources": {"requests": {"cpu": "3"}}, "containers": [container("1")]}), 3),
    ];
    for (name, spec, cpu) in rows {
        assert!(fits(spec.clone(), &cpu.to_string()), "{name} fits {cpu}");
        assert!(!fits(spec, &format!("{}m", cpu * 1000 - 1)), "{name} needs {cpu}");
    }
}

#[test]
fn a_pod_that_is_being_resized_counts_for_both_sizes() {
    let mut world = World::new().nodes(&["a"], "4");
    let mut running = pod("running", asking("1"));
    running["status"]["containerStatuses"] = json!([{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
        "allocatedResources": {"cpu": "3"}, "resources": {"requests": {"cpu": "3"}}}]);
    world.placed("a", running.clone());
    assert!(world.try_pod(asking("2")).contains("1 Insufficient cpu"));
    running["status"]["containerStatuses"][0]["allocatedResources"]["cpu"] = "1".into();
    running["status"]["containerStatuses"][0]["resources"]["requests"]["cpu"] = "1".into();
    world.placed("a", running);
    assert_eq!(world.try_pod(asking("3")), "a");
}

#[test]
fn nodes_fill_up() {
    let mut world = World::new().nodes(&["a"], "1");
    for number in 0..11 {
        world.pod(&pod(&format!("pod-{number}"), asking("10m")));
    }
    let lines = world.decide_all();
    let last = lines.lines().last().expect("decisions");
    assert_eq!(
        last,
        "pod-10: 0/1 nodes are available: 1 Too many pods. no new claims to deallocate, preemption: 0/1 nodes are \
         available: 1 No preemption victims found for incoming pod."
    );
}

#[test]
fn a_port_of_the_host_has_one_user_per_address_and_protocol() {
    let port = |protocol: &str, address: &str| json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80, "protocol": protocol, "hostIP": address}]}]});
    let mut world = World::new().nodes(&["a"], "1");
    world.placed("a", pod("one", port("TCP", "127.0.0.1")));
    assert_eq!(world.try_pod(port("TCP", "10.0.0.1")), "a");
    assert_eq!(world.try_pod(port("UDP", "127.0.0.1")), "a");
    let taken = "node(s) didn't have free ports for the requested pod ports";
    assert!(world.try_pod(port("TCP", "127.0.0.1")).contains(taken));
    assert!(world.try_pod(port("TCP", "")).contains(taken), "all addresses are one of them");
    world.gone("one");
    assert_eq!(world.try_pod(port("TCP", "")), "a");
}

#[test]
fn profiles_add_affinity_and_leave_out_plugins() {
    let affinity =
        serde_json::from_value(json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["b"]}]}]}}));
    let added = crate::AddedAffinity::of(&affinity.expect("an affinity"));
    let mut world = World::with(crate::Profile { added_affinity: added, ..crate::Profile::default() });
    world.node(&node("a", "1"));
    assert!(world.try_pod(json!({})).contains("1 node(s) didn't match scheduler-enforced node affinity"));
    world.node(&node("b", "1"));
    assert_eq!(world.try_pod(json!({})), "b");

    let disabled = vec!["NodeUnschedulable".to_owned()];
    let mut world = World::with(crate::Profile { disabled, ..crate::Profile::default() });
    let mut cordoned = node("c", "1");
    cordoned["spec"]["unschedulable"] = true.into();
    world.node(&cordoned);
    assert_eq!(world.try_pod(json!({})), "c");
}

#[test]
fn pods_of_other_schedulers_are_left_alone() {
    let mut world = World::new().nodes(&["a"], "1");
    world.pod(&pod("other", json!({"schedulerName": "another"})));
    world.pod(&pod("own", json!({"schedulerName": "default-scheduler"})));
    assert_eq!(world.decide_all(), "own -> a");
}
