//! Which of the nodes that would do is best.

use serde_json::json;

use super::{World, asking, node, pod};
use crate::{Profile, Scoring};

#[test]
fn the_emptier_or_the_fuller_the_better() {
    for (scoring, best) in [
        (Scoring::LeastAllocated, "b"),
        (Scoring::MostAllocated, "a"),
        (Scoring::RequestedToCapacityRatio(vec![(0, 0), (100, 10)]), "a"),
        (Scoring::RequestedToCapacityRatio(vec![(0, 10), (100, 0)]), "b"),
    ] {
        let weights = vec![("NodeResourcesBalancedAllocation".to_owned(), 0)];
        let profile = Profile { scoring: scoring.clone(), weights, ..Profile::default() };
        let mut world = World::with(profile).nodes(&["a", "b"], "4");
        world.placed("a", pod("there", asking("2")));
        assert_eq!(world.try_pod(asking("1")), best, "{scoring:?}");
    }
}

#[test]
fn neither_cpu_nor_memory_is_left_over() {
    let mut world = World::new().nodes(&["a", "b"], "4");
    let both = |cpu: &str, memory: &str| json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]});
    // As much in use on both, but a has CPU left over.
    world.placed("a", pod("one", both("1", "3Gi")));
    world.placed("b", pod("two", both("3", "1Gi")));
    assert_eq!(world.try_pod(both("1", "100Mi")), "a");
}

#[test]
fn taints_preferences_and_images_weigh() {
    let mut world = World::new();
    let mut tainted = node("a", "4");
    tainted["spec"]["taints"] = json!([{"key": "k", "effect": "PreferNoSchedule"}]);
    let mut stocked = node("b", "4");
    stocked["status"]["images"] = json!([{"names": ["registry.local/big:1"], "sizeBytes": 2_000_000_000_u64}]);
    let mut fast = node("c", "4");
    fast["metadata"]["labels"]["disk"] = "ssd".into();
    [tainted, stocked, fast].iter().for_each(|node| world.node(node));
    assert_ne!(world.try_pod(json!({})), "a");
    assert_eq!(world.try_pod(json!({"containers": [{"name": "c", "image": "registry.local/big:1"}]})), "b");
    let prefers = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 5, "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}}]}}});
    assert_eq!(world.try_pod(prefers), "c");
    let decision = world.decisions.get("default", "try").expect("the decision is kept");
    let best = &decision.nodes[0];
    assert_eq!((decision.node.as_deref(), &*best.node), (Some("c"), "c"));
    assert!(best.scores.contains(&("NodeAffinity", 200)), "{:?}", best.scores);
    assert_eq!(best.score, Some(best.scores.iter().map(|(_, score)| score).sum()));
}

#[test]
fn reasons_are_kept() {
    let mut world = World::new().nodes(&["a", "b"], "1");
    world.try_pod(asking("2"));
    let decision = world.decisions.get("default", "try").expect("the decision is kept");
    assert!(decision.message.starts_with("0/2 nodes are available: 2 Insufficient cpu."));
    let verdicts: Vec<_> = decision.nodes.iter().map(|own| (own.rejected_by, own.reasons.join(","))).collect();
    assert_eq!(verdicts, vec![(Some("NodeResourcesFit"), "Insufficient cpu".to_owned()); 2]);
    assert!(world.decisions.get("default", "nobody").is_none());
}
