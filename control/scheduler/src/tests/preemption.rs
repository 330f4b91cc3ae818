//! Less important pods make room.

use corten_client::Key;
use serde_json::{Value, json};

use super::{World, asking, node, pod};
use crate::cache::Budget;
use crate::core::{Nomination, Step};
use crate::model::{Selector, hashed};

fn with_priority(priority: i32, cpu: &str) -> Value {
    let mut spec = asking(cpu);
    spec["priority"] = priority.into();
    spec["labels"] = json!({"app": "web"});
    spec
}

#[test]
fn the_least_important_make_room_and_no_more_of_them_than_must() {
    let mut world = World::new().nodes(&["a", "b"], "4");
    world.placed("a", pod("a-low", with_priority(1, "1")));
    world.placed("a", pod("a-lower", with_priority(0, "1")));
    world.placed("a", pod("a-high", with_priority(5, "2")));
    world.placed("b", pod("b-mid", with_priority(3, "4")));
    world.pod(&pod("big", with_priority(4, "2")));
    assert_eq!(world.decide_all(), "big: 0/2 nodes are available: 2 Insufficient cpu. preempts a-low, a-lower");
    // Room is kept for it: another pod, no more important, does not take it.
    world.gone("a-low");
    world.pod(&pod("small", with_priority(4, "1")));
    world.gone("a-lower");
    world.advance(2);
    let lines = world.decide_all();
    assert!(lines.contains("big -> a"), "{lines}");
    assert!(!lines.contains("small -> a"), "{lines}");
}

#[test]
fn who_is_not_more_important_waits() {
    let mut world = World::new().nodes(&["a"], "1");
    world.placed("a", pod("there", with_priority(1, "1")));
    let line = world.try_pod(with_priority(1, "1"));
    assert!(line.ends_with("0/1 nodes are available: 1 No preemption victims found for incoming pod."), "{line}");
    let line = world.try_pod(with_priority(2, "2"));
    assert!(line.ends_with("0/1 nodes are available: 1 Preemption is not helpful for scheduling."), "{line}");
    let mut never = with_priority(2, "1");
    never["preemptionPolicy"] = "Never".into();
    assert!(world.try_pod(never).ends_with("preemption: not eligible due to preemptionPolicy=Never."));
}

#[test]
fn budgets_are_spared_where_possible() {
    let mut world = World::new().nodes(&["a", "b"], "1");
    for node in ["a", "b"] {
        let mut spec = with_priority(0, "1");
        spec["labels"] = json!({"app": node});
        world.placed(node, pod(&format!("{node}-0"), spec));
    }
    let selector = serde_json::from_value(json!({"matchLabels": {"app": "a"}})).expect("a selector");
    let budget = Budget {
        namespace: hashed("default"),
        selector: Selector::of(Some(&selector)),
        allowed: 0,
        disrupted: Vec::new(),
    };
    world.core.cache.budgets.set(Key::new("default", "budget"), Some(budget));
    assert!(world.try_pod(with_priority(1, "1")).ends_with("preempts b-0"));
    world.gone("b-0");
    world.placed("b", pod("b-1", with_priority(9, "1")));
    // A budget does not keep a pod from making room if nothing else does.
    assert!(world.try_pod(with_priority(1, "1")).ends_with("preempts a-0"));
}

#[test]
fn room_is_made_for_affinity_and_spreading_too() {
    let mut world = World::new().nodes(&["a"], "4");
    world.placed("a", pod("there", with_priority(0, "1")));
    let mut spec = with_priority(1, "1");
    spec["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}]}});
    let line = world.try_pod(spec);
    assert!(line.ends_with("preempts there"), "{line}");

    let mut world = World::new().nodes(&["a", "b"], "4");
    world.placed("a", pod("there", with_priority(0, "1")));
    world.placed(
        "b",
        pod("full", {
            let mut spec = asking("4");
            spec["priority"] = 9.into();
            spec
        }),
    );
    let mut spec = with_priority(1, "1");
    spec["topologySpreadConstraints"] = json!([{"topologyKey": "kubernetes.io/hostname", "maxSkew": 1,
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]);
    let line = world.try_pod(spec);
    assert!(line.ends_with("preempts there"), "{line}");
}

#[test]
fn while_victims_leave_no_others_are_asked() {
    let mut world = World::new().nodes(&["a"], "1");
    world.placed("a", pod("there", with_priority(0, "1")));
    world.pod(&pod("big", with_priority(1, "1")));
    assert!(world.decide_all().ends_with("preempts there"));
    let mut leaving = pod("there", with_priority(0, "1"));
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    leaving["status"]["conditions"] =
        json!([{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]);
    world.placed("a", leaving);
    assert_eq!(world.decide_all(), "", "that it is leaving frees nothing yet");
    world.advance(301);
    let line = world.decide_all();
    assert!(line.ends_with("preemption: not eligible due to a terminating pod on the nominated node."), "{line}");
    world.gone("there");
    assert_eq!(world.decide_all(), "big -> a");
}

#[test]
fn no_others_are_asked_before_the_first_have_been() {
    let mut world = World::new().nodes(&["a", "b"], "1");
    for name in ["a", "b"] {
        world.placed(name, pod(&format!("on-{name}"), with_priority(0, "1")));
    }
    world.pod(&pod("big", with_priority(1, "1")));
    let Some(Step::Reject(first)) = world.core.next(world.now, 0) else { panic!("there is no room") };
    assert_eq!(first.victims.len(), 1);
    world.advance(60);
    world.core.queue.retry(&Key::new("default", "big"), world.now);
    let Some(Step::Reject(second)) = world.core.next(world.now, 0) else { panic!("there is no room yet") };
    let why = "preemption: waiting for the preemption for this pod to be finished";
    assert!(second.message.ends_with(why), "{}", second.message);
    assert!(second.victims.is_empty());
    assert_eq!(second.nomination, Nomination::Keep);
    world.core.evicted(&first.pod, true, world.now);
    world.advance(60);
    world.core.queue.retry(&Key::new("default", "big"), world.now);
    let line = world.decide_all();
    assert!(line.contains(" preempts on-"), "{line}");
}

fn with_disk(name: &str) -> Value {
    let mut node = node(name, "1");
    node["metadata"]["labels"]["disk"] = "ssd".into();
    node
}

fn big() -> Value {
    let mut spec = with_priority(2, "1");
    spec["nodeSelector"] = json!({"disk": "ssd"});
    pod("big", spec)
}

/// Has room be made for `big` on a node that `small` wants too, then something happen; what is decided then.
fn after_nomination(change: impl Fn(&mut World)) -> String {
    let mut world = World::new();
    world.node(&with_disk("a"));
    world.node(&node("b", "1"));
    world.placed("a", pod("there", with_priority(0, "1")));
    world.pod(&big());
    let line = world.decide_all();
    assert!(line.ends_with("preempts there"), "{line}");
    let mut spec = with_priority(1, "1");
    spec["nodeSelector"] = json!({"kubernetes.io/hostname": "a"});
    world.pod(&pod("small", spec));
    let line = world.decide_all();
    assert!(line.starts_with("small: 0/2 nodes") && !line.contains("preempts"), "{line}");
    world.advance(60);
    change(&mut world);
    world.decide_all()
}

fn wakes(what: &str, change: impl Fn(&mut World)) {
    let lines = after_nomination(change);
    let last = lines.lines().last().unwrap_or_default();
    assert!(last.starts_with("small: ") && last.ends_with(" preempts there"), "{what}: {lines}");
}

#[test]
fn room_that_is_kept_no_longer_wakes_who_waits_for_it() {
    wakes("it is gone", |world| world.gone("big"));
    wakes("it is about to go", |world| {
        let mut leaving = big();
        leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        world.pod(&leaving);
    });
    wakes("somebody placed it elsewhere", |world| world.placed("b", big()));
    wakes("it fits elsewhere", |world| world.node(&with_disk("b")));
    wakes("room is made elsewhere", |world| {
        world.placed("b", pod("other", with_priority(0, "1")));
        world.node(&with_disk("b"));
        world.node(&node("a", "1"));
    });
    assert_eq!(after_nomination(|world| world.placed("a", big())), "", "it has the room");
    let lines = after_nomination(|world| {
        world.placed("a", pod("there", with_priority(9, "1")));
        world.core.queue.retry(&Key::new("default", "big"), world.now);
    });
    assert!(lines.starts_with("big: ") && lines.contains("\nsmall: "), "there is no way to make room: {lines}");
}
