//! Who is next, and what wakes those who wait.

use corten_client::Key;
use serde_json::{Value, json};

use super::{World, asking, node, pod};

#[test]
fn the_most_important_comes_first_then_the_first() {
    let mut world = World::new().nodes(&["a"], "8");
    for (name, priority) in [("late", 0), ("high", 10), ("low", -1)] {
        world.pod(&pod(name, json!({"priority": priority})));
        world.advance(1);
    }
    world.pod(&pod("later", json!({})));
    assert_eq!(world.decide_all(), "high -> a\nlate -> a\nlater -> a\nlow -> a");
}

#[test]
fn gates_hold_until_they_open() {
    let mut world = World::new().nodes(&["a"], "1");
    world.pod(&pod("gated", json!({"schedulingGates": [{"name": "example.com/wait"}]})));
    assert_eq!(world.decide_all(), "");
    world.pod(&pod("gated", json!({})));
    assert_eq!(world.decide_all(), "gated -> a");
}

/// Has one pod be rejected, then something happen; whether it was tried again at once.
fn wakes(spec: Value, prepare: impl Fn(&mut World), change: impl Fn(&mut World)) -> bool {
    let mut world = World::new().nodes(&["a"], "4");
    prepare(&mut world);
    world.pod(&pod("waiting", spec));
    let line = world.decide_all();
    assert!(line.starts_with("waiting: 0/1 nodes"), "{line}");
    world.advance(60);
    change(&mut world);
    assert_eq!(world.core.queue.is_waiting(&Key::new("default", "waiting")), world.decide().is_none());
    !world.core.queue.is_waiting(&Key::new("default", "waiting"))
        || world.decisions.get("default", "waiting").is_some_and(|decision| decision.attempt > 1)
}

#[test]
fn only_what_may_help_wakes_who_waits() {
    let nothing = |_: &mut World| {};
    let small = |world: &mut World| world.node(&node("b", "1"));
    let large = |world: &mut World| world.node(&node("b", "8"));
    assert!(!wakes(asking("5"), nothing, small), "a node that is too small");
    assert!(wakes(asking("5"), nothing, large), "a node that is large enough");
    assert!(wakes(asking("5"), nothing, |world| world.node(&node("a", "6"))), "a node that grew");
    let busy = |world: &mut World| world.placed("a", pod("there", asking("3")));
    assert!(wakes(asking("2"), busy, |world| world.gone("there")), "a pod that left");
    let memory = json!({"containers": [{"name": "c", "resources": {"requests": {"memory": "1Gi"}}}]});
    let beside = |world: &mut World| {
        busy(world);
        world.placed("a", pod("beside", memory.clone()));
    };
    assert!(!wakes(asking("2"), beside, |world| world.gone("beside")), "a pod that had nothing it lacks");
    assert!(!wakes(asking("2"), busy, |world| world.placed("a", pod("other", json!({})))), "a pod that came");

    let wants_ssd = || json!({"nodeSelector": {"disk": "ssd"}});
    let labelled = |world: &mut World| {
        let mut node = node("a", "4");
        node["metadata"]["labels"]["disk"] = "ssd".into();
        world.node(&node);
    };
    assert!(!wakes(wants_ssd(), nothing, large), "a node without the label");
    assert!(wakes(wants_ssd(), nothing, labelled), "the label");
    assert!(!wakes(wants_ssd(), busy, |world| world.gone("there")), "room is not what it lacks");

    let cordon = |world: &mut World| {
        let mut node = node("a", "4");
        node["spec"]["unschedulable"] = true.into();
        world.node(&node);
    };
    assert!(wakes(json!({}), cordon, |world| world.node(&node("a", "4"))), "the node is back");

    let near = json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}}}]}}});
    let comes =
        |app: &'static str| move |world: &mut World| world.placed("a", pod("db", json!({"labels": {"app": app}})));
    assert!(wakes(near.clone(), nothing, comes("db")), "the company it wants");
    assert!(!wakes(near, nothing, comes("web")), "other company");
}

#[test]
fn after_five_minutes_everybody_is_tried_again() {
    let mut world = World::new().nodes(&["a"], "1");
    world.pod(&pod("big", asking("2")));
    assert!(world.decide().is_some());
    world.advance(299);
    assert!(world.decide().is_none());
    world.advance(2);
    assert!(world.decide().is_some());
    assert!(world.decide().is_none());
}

#[test]
fn a_pod_that_changes_is_tried_again_and_its_status_is_no_change() {
    let mut world = World::new().nodes(&["a"], "1");
    let mut big = pod("big", asking("2"));
    world.pod(&big);
    assert!(world.decide().is_some());
    big["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "False"}]);
    world.pod(&big);
    assert!(world.decide().is_none());
    big["spec"] = pod("big", asking("1"))["spec"].clone();
    world.pod(&big);
    assert_eq!(world.decide_all(), "big -> a");
}

#[test]
fn a_failed_binding_frees_the_node_and_waits_longer_each_time() {
    let mut world = World::new().nodes(&["a"], "1");
    let object = pod("one", asking("1"));
    world.pod(&object);
    let parsed: corten_api::api::core::v1::Pod = serde_json::from_value(object).expect("a pod");
    let mut waits = Vec::new();
    for _ in 0..6 {
        let Some(crate::core::Step::Bind(placement)) = world.core.next(world.now, 0) else { panic!("it fits") };
        world.core.bound(&placement, false, Some(crate::model::PodInfo::of(&parsed)), world.now);
        assert_eq!(world.core.cache.node(0).pods.len(), 0);
        let mut seconds = 0;
        while world.core.queue.next_tick().is_some_and(|at| at > world.now) {
            assert!(world.core.next(world.now, 0).is_none());
            world.advance(1);
            seconds += 1;
        }
        waits.push(seconds);
    }
    assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
}

#[test]
fn a_failed_preemption_is_not_repeated_at_once_and_waits_longer_each_time() {
    let mut world = World::new().nodes(&["a"], "1");
    world.placed("a", pod("there", asking("1")));
    let mut spec = asking("1");
    spec["priority"] = 1.into();
    world.pod(&pod("big", spec));
    let mut waits = Vec::new();
    for _ in 0..6 {
        let Some(crate::core::Step::Reject(rejected)) = world.core.next(world.now, 0) else {
            panic!("there is no room")
        };
        assert_eq!(rejected.victims.len(), 1);
        world.core.evicted(&rejected.pod, false, world.now);
        let mut seconds = 0;
        while world.core.queue.next_tick().is_some_and(|at| at > world.now) {
            assert!(world.core.next(world.now, 0).is_none());
            world.advance(1);
            seconds += 1;
        }
        waits.push(seconds);
    }
    assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
}

#[test]
fn a_pod_that_took_the_name_of_another_is_another() {
    let mut world = World::new().nodes(&["a"], "1");
    world.pod(&pod("one", asking("1")));
    assert_eq!(world.decide_all(), "one -> a");
    let mut second = pod("one", asking("1"));
    second["metadata"]["uid"] = "second".into();
    world.pod(&second);
    assert_eq!(world.decide_all(), "one -> a");
    assert_eq!(world.core.cache.node(0).pods.len(), 1);
}
