//! A cache that saw any sequence of changes decides as one that is built of the last state alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_api::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{World, node_in, pod};
use crate::Profile;
use crate::framework::State;
use crate::model::{Amounts, NodeInfo, PodInfo};
use crate::schedule::{cycle, filter, move_pod, prepare};

#[derive(Clone, Debug)]
enum Step {
    Node(u8, Value),
    NoNode(u8),
    Pod(u8, Value),
    NoPod(u8),
    Ask(Value),
}

fn node_name(number: u8) -> String {
    format!("node-{number}")
}

fn any_node() -> impl Strategy<Value = (u8, Value)> {
    (0..5_u8, 0..3_u8, 1..5_u8, any::<bool>(), any::<bool>()).prop_map(|(number, zone, cpu, tainted, cordoned)| {
        let mut node = node_in(&format!("zone-{zone}"), &node_name(number), &cpu.to_string());
        if tainted {
            node["spec"]["taints"] =
                json!([{"key": "k", "effect": if zone == 0 { "PreferNoSchedule" } else { "NoSchedule" }}]);
        }
        if cordoned && zone == 1 {
            node["spec"]["unschedulable"] = true.into();
        }
        (number, node)
    })
}

fn any_spec() -> impl Strategy<Value = Value> {
    (0..3_u8, 0..3_u8, 0..7_u8, 0..3_i32, any::<bool>()).prop_map(|(app, cpu, kind, priority, tolerates)| {
        let topology = if cpu == 0 { "kubernetes.io/hostname" } else { "topology.kubernetes.io/zone" };
        let selector = json!({"matchLabels": {"app": format!("app-{}", (app + 1) % 3)}});
        let term = json!({"topologyKey": topology, "labelSelector": selector});
        let mut spec = json!({
            "labels": {"app": format!("app-{app}")}, "priority": priority,
            "containers": [{"name": "c", "resources": {"requests": {"cpu": format!("{}m", u32::from(cpu) * 400)}}}],
        });
        if tolerates {
            spec["tolerations"] = json!([{"operator": "Exists"}]);
        }
        match kind {
            0 => spec["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}),
            1 => spec["affinity"] = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}),
            2 => spec["affinity"] = json!({"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 7, "podAffinityTerm": term}]}}),
            3 => spec["topologySpreadConstraints"] = json!([{"topologyKey": topology, "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}]),
            4 => spec["topologySpreadConstraints"] = json!([{"topologyKey": topology, "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": selector}]),
            5 => spec["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 80}]),
            _ => {}
        }
        spec
    })
}

fn any_placed() -> impl Strategy<Value = (u8, Value)> {
    (0..12_u8, 0..6_u8, any_spec(), any::<bool>()).prop_map(|(number, node, spec, leaving)| {
        let mut object = pod(&format!("pod-{number}"), spec);
        object["metadata"]["uid"] = format!("{number}-{node}").into();
        object["spec"]["nodeName"] = node_name(node).into();
        if leaving && number < 3 {
            object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        (number, object)
    })
}

fn parsed(object: &Value) -> PodInfo {
    let pod: Pod = serde_json::from_value(object.clone()).expect("a pod");
    PodInfo::of(&pod)
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any_node().prop_map(|(number, node)| Step::Node(number, node)),
        1 => (0..5_u8).prop_map(Step::NoNode),
        6 => any_placed().prop_map(|(number, object)| Step::Pod(number, object)),
        2 => (0..12_u8).prop_map(Step::NoPod),
        3 => any_spec().prop_map(Step::Ask),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn history_does_not_matter(steps in prop::collection::vec(any_step(), 1..50)) {
        let mut world = World::new();
        let (mut nodes, mut pods): (BTreeMap<u8, Value>, BTreeMap<u8, Value>) = Default::default();
        for step in steps {
            match step {
                Step::Node(number, node) => {
                    world.node(&node);
                    nodes.insert(number, node);
                }
                Step::NoNode(number) => {
                    world.core.set_node(&node_name(number), None, world.now);
                    nodes.remove(&number);
                }
                Step::Pod(number, object) => {
                    world.pod(&object);
                    pods.insert(number, object);
                }
                Step::NoPod(number) => {
                    world.gone(&format!("pod-{number}"));
                    pods.remove(&number);
                }
                Step::Ask(spec) => {
                    let mut fresh = World::new();
                    pods.values().for_each(|pod| fresh.pod(pod));
                    nodes.values().for_each(|node| fresh.node(node));
                    fresh.now = world.now;
                    fresh.core.begin_at(0);
                    world.core.begin_at(0);
                    prop_assert_eq!(world.try_pod(spec.clone()), fresh.try_pod(spec));
                }
            }
        }
    }

    #[test]
    fn sums_are_as_before_once_a_pod_has_left(
        others in prop::collection::vec(prop_oneof![1..1_000_i64, Just(i64::MAX / 2), Just(i64::MAX)], 0..6),
        amount in prop_oneof![1..1_000_i64, Just(i64::MAX - 1), Just(i64::MAX)],
    ) {
        let asking = |number: usize, amount: i64| {
            let mut requests = Amounts::default();
            for name in ["cpu", "memory", "example.com/thing"] {
                requests.set(name, amount);
            }
            let (counted_cpu, counted_memory) = (amount, amount);
            Arc::new(PodInfo { uid: number.to_string(), requests, counted_cpu, counted_memory, ..PodInfo::default() })
        };
        let mut node = NodeInfo::default();
        others.iter().enumerate().for_each(|(number, amount)| node.add(asking(number, *amount)));
        let before = node.clone();
        node.add(asking(others.len(), amount));
        node.remove(&asking(others.len(), amount));
        prop_assert_eq!(node, before);
    }

    #[test]
    fn what_would_be_is_what_is_once_it_comes_true(
        nodes in prop::collection::vec(any_node(), 2..6),
        pods in prop::collection::vec(any_placed(), 1..20),
        spec in any_spec(),
    ) {
        let mut world = World::new();
        nodes.iter().for_each(|(_, node)| world.node(node));
        pods.iter().for_each(|(_, pod)| world.pod(pod));
        world.core.cache.settle();
        let asking = parsed(&pod("try", spec));
        for slot in world.core.cache.order().to_vec() {
            let (tried, there) = {
                let cache = &world.core.cache;
                let profile = Profile::default();
                let cycle = cycle(cache, &profile, &asking).expect("it has no node");
                let (mut state, mut asked) = (State::default(), 0);
                prepare(&cycle, &mut state, &mut asked).expect("nothing refuses it");
                let mut node = cache.node(slot).clone();
                let there = node.pods.clone();
                // They leave, the first of them comes back, and leaves again.
                there.iter().for_each(|pod| move_pod(&cycle, &mut state, asked, &mut node, pod, false));
                if let Some(first) = there.first() {
                    move_pod(&cycle, &mut state, asked, &mut node, first, true);
                    move_pod(&cycle, &mut state, asked, &mut node, first, false);
                }
                (filter(&cycle, &state, asked, &node).is_ok(), there)
            };
            there.iter().for_each(|pod| world.gone(&pod.key.name));
            let cache = &world.core.cache;
            let profile = Profile::default();
            let cycle = cycle(cache, &profile, &asking).expect("it has no node");
            let (mut state, mut asked) = (State::default(), 0);
            prepare(&cycle, &mut state, &mut asked).expect("nothing refuses it");
            let real = filter(&cycle, &state, asked, cache.node(slot)).is_ok();
            prop_assert_eq!(tried, real);
            there.into_iter().for_each(|pod| drop(world.core.cache.place(pod)));
        }
    }
}
