//! Pods and their volumes.

use serde_json::{Value, json};

use super::{World, node_in, pod};

fn world() -> World {
    let mut world = World::new();
    world.node(&node_in("x", "a", "4"));
    world.node(&node_in("y", "b", "4"));
    world.class(json!({"metadata": {"name": "wait"}, "provisioner": "example.com/disk", "volumeBindingMode": "WaitForFirstConsumer"}));
    world.class(json!({"metadata": {"name": "static"}, "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"}));
    world.class(
        json!({"metadata": {"name": "now"}, "provisioner": "example.com/disk", "volumeBindingMode": "Immediate"}),
    );
    world
}

fn user(claim: &str) -> Value {
    json!({"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]})
}

fn claim(class: &str, more: Value) -> Value {
    let mut claim = json!({"metadata": {"name": "data", "namespace": "default", "uid": "claim"}, "spec": {
        "storageClassName": class, "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}}});
    for (key, value) in more.as_object().into_iter().flatten() {
        match key.as_str() {
            "annotations" => claim["metadata"]["annotations"] = value.clone(),
            key => claim["spec"][key] = value.clone(),
        }
    }
    claim
}

fn volume(name: &str, size: &str, node: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"storageClassName": "static", "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": size}, "nodeAffinity": {"required": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}}}})
}

#[test]
fn a_claim_that_is_not_ready_holds_up_its_pod() {
    let mut world = world();
    let refused = |line: &str, why: &str| assert!(line.contains(&format!("0/2 nodes are available: {why}.")), "{line}");
    refused(&world.try_pod(user("data")), "persistentvolumeclaim \"data\" not found");
    world.claim(claim("now", json!({})));
    refused(&world.try_pod(user("data")), "pod has unbound immediate PersistentVolumeClaims");
    let own = json!({"volumes": [{"name": "own", "ephemeral": {}}]});
    refused(
        &world.try_pod(own),
        "waiting for ephemeral volume controller to create the persistentvolumeclaim \"try-own\"",
    );
}

#[test]
fn a_bound_claim_says_where_its_pod_goes() {
    let mut world = world();
    world.volume(volume("v", "10Gi", "b"));
    let bound = json!({"volumeName": "v", "annotations": {"pv.kubernetes.io/bind-completed": "yes"}});
    world.claim(claim("static", bound));
    assert_eq!(world.try_pod(user("data")), "b");
    world.volume(volume("v", "10Gi", "c"));
    let line = world.try_pod(user("data"));
    assert!(line.contains("2 node(s) didn't match PersistentVolume's node affinity"), "{line}");
    let mut zoned = volume("v", "10Gi", "a");
    zoned["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": "y"});
    world.volume(zoned);
    let line = world.try_pod(user("data"));
    assert!(line.contains("1 node(s) had no available volume zone"), "{line}");
}

#[test]
fn a_waiting_claim_gets_a_volume_near_its_pod() {
    let mut world = world();
    world.claim(claim("static", json!({})));
    let line = world.try_pod(user("data"));
    assert!(line.contains("2 node(s) didn't find available persistent volumes to bind"), "{line}");
    world.volume(volume("small", "1Gi", "a"));
    world.volume(volume("large", "100Gi", "b"));
    world.volume(volume("right", "5Gi", "b"));
    let line = world.try_pod(user("data"));
    assert!(line.starts_with("b Bind") && line.contains("\"right\""), "{line}");

    world.claim(claim("wait", json!({})));
    let line = world.try_pod(user("data"));
    assert!(line.contains("Provision"), "{line}");
    // Once a node was selected, there is no other.
    world.claim(claim("wait", json!({"annotations": {"volume.kubernetes.io/selected-node": "b"}})));
    assert!(world.try_pod(user("data")).starts_with("b Provision"));
}

#[test]
fn two_claims_do_not_get_the_same_volume() {
    let mut world = world();
    world.volume(volume("only", "5Gi", "a"));
    world.claim(claim("static", json!({})));
    let mut other = claim("static", json!({}));
    other["metadata"]["name"] = "more".into();
    world.claim(other);
    let both = json!({"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "more", "persistentVolumeClaim": {"claimName": "more"}}]});
    let line = world.try_pod(both);
    assert!(line.contains("2 node(s) didn't find available persistent volumes to bind"), "{line}");
}

#[test]
fn a_claim_for_one_pod_has_one_user() {
    let mut world = world();
    let bound = json!({"volumeName": "v", "accessModes": ["ReadWriteOncePod"], "annotations": {"pv.kubernetes.io/bind-completed": "yes"}});
    world.claim(claim("static", bound));
    world.volume(volume("v", "10Gi", "a"));
    world.placed("a", pod("first", user("data")));
    world.pod(&pod("second", user("data")));
    let line = world.decide_all();
    let why = "2 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
    assert!(line.contains(why), "{line}");
    let mut important = user("data");
    important["priority"] = 1.into();
    assert!(world.try_pod(important).ends_with("preempts first"));
    world.advance(60);
    world.gone("first");
    assert_eq!(world.decide_all(), "second -> a");
}

#[test]
fn a_node_takes_as_many_volumes_as_its_driver_allows() {
    let mut world = World::new().nodes(&["a"], "4");
    world.core.cache.storage.set_limits("a", vec![("disk".to_owned(), 1)]);
    for name in ["one", "two"] {
        let mut own =
            claim("x", json!({"volumeName": name, "annotations": {"pv.kubernetes.io/bind-completed": "yes"}}));
        own["metadata"]["name"] = name.into();
        world.claim(own);
        world.volume(json!({"metadata": {"name": name}, "spec": {"csi": {"driver": "disk", "volumeHandle": name}}}));
    }
    world.placed("a", pod("first", user("one")));
    assert_eq!(world.try_pod(user("one")), "a", "the same volume");
    let line = world.try_pod(user("two"));
    assert!(line.contains("1 node(s) exceed max volume count"), "{line}");
}

#[test]
fn only_its_own_claim_wakes_a_pod() {
    let mut world = world();
    world.pod(&pod("waiting", user("data")));
    assert!(world.decide_all().contains("not found"));
    world.advance(60);
    let mut other = claim("wait", json!({}));
    other["metadata"]["name"] = "other".into();
    world.claim(other);
    assert_eq!(world.decide_all(), "");
    world.claim(claim("wait", json!({})));
    assert!(world.decide_all().starts_with("waiting -> "));
}
