//! What is to be done about a node.

use std::time::Duration;

use corten_api::api::core::v1::{Node, NodeCondition, Taint};
use corten_api::meta::Time;
use corten_base::Timestamp;
use serde_json::{Value, json};

use super::zones::Leave;

/// A node that has not renewed its lease for so long is not trusted to be well.
const GRACE: Duration = Duration::from_secs(50);
/// So long a new node may take to say anything.
const STARTUP_GRACE: Duration = Duration::from_secs(60);
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions that nothing new may come to, with the taints that say so.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
];
/// What only the node itself can know.
const SELF_REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// What is to be done.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Its conditions become unknown.
    pub(super) lost: Option<Loss>,
    /// Nobody has heard of it for too long.
    pub(super) silent: bool,
    /// Its taints, if they change.
    pub(super) taints: Option<Vec<Taint>>,
    /// When its lease will be too old, or its pods may move.
    pub(super) again: Option<Duration>,
}

/// A node of which nobody hears any more.
#[derive(Debug, PartialEq)]
pub(super) struct Loss {
    /// What is known of it from now on: nothing.
    pub(super) conditions: Vec<Value>,
    /// Whether it was well before.
    pub(super) was_ready: bool,
}

fn conditions(node: &Node) -> &[NodeCondition] {
    node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

/// `True`, `False` or `Unknown`, if it is said.
pub(super) fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a str> {
    conditions(node).iter().find(|own| own.type_ == kind).map(|own| own.status.as_str())
}

fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

/// Plans for a node whose lease was renewed last at that time. `start` is when its silence counts from at the earliest.
/// `may_move` is asked only if its pods are to move now.
pub(super) fn plan(
    node: &Node,
    renewed: Option<Timestamp>,
    start: Timestamp,
    now: Timestamp,
    may_move: impl FnOnce() -> Leave,
) -> Plan {
    let created = node.metadata.creation_timestamp.as_ref().map(|time| time.0);
    // What it posts itself is a sign of life too: a node that comes back may not have renewed its lease yet.
    let posted = conditions(node).iter().find(|own| own.type_ == "Ready");
    let posted = posted.and_then(|own| own.last_heartbeat_time.as_ref()).map(|time| time.0);
    let seen = renewed.max(created).max(posted).map_or(now, |seen| seen.max(start));
    let age = Duration::try_from(now.duration_since(seen)).unwrap_or_default();
    let ready = condition(node, "Ready");
    let grace = if ready.is_none() { STARTUP_GRACE } else { GRACE };
    let silent = age >= grace;
    let mut plan = Plan { silent, again: (!silent).then(|| grace - age), ..Plan::default() };
    if silent && ready != Some("Unknown") {
        plan.lost = Some(Loss { conditions: unknown(node, now), was_ready: ready == Some("True") });
        return plan;
    }
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    for (kind, key) in PRESSURES {
        if condition(node, kind) == Some("True") {
            wanted.push((key, "NoSchedule"));
        }
    }
    let unwell = match ready {
        Some("True") => None,
        Some("Unknown") => Some(UNREACHABLE),
        _ => Some(NOT_READY),
    };
    if let Some(key) = unwell {
        wanted.push((key, "NoSchedule"));
        let ours = |taint: &&Taint| taint.effect == "NoExecute" && [NOT_READY, UNREACHABLE].contains(&&*taint.key);
        let moving = taints(node).iter().any(|taint| ours(&taint));
        // A node that never was ready has nothing to move away.
        let leave = ready.map_or(Leave::Never, |_| may_move());
        match leave {
            Leave::Now => wanted.push((key, "NoExecute")),
            // What was decided stands; there is no hurry to it.
            Leave::Later(_) if moving => wanted.push((key, "NoExecute")),
            Leave::Later(wait) => plan.again = Some(plan.again.map_or(wait, |again| again.min(wait))),
            Leave::Never => {}
        }
    }
    let after = with_taints(taints(node), &wanted, now);
    plan.taints = (after != taints(node)).then_some(after);
    plan
}

/// The taints of others, and ours as they are to be.
fn with_taints(before: &[Taint], wanted: &[(&str, &str)], now: Timestamp) -> Vec<Taint> {
    let pressures = PRESSURES.map(|(_, key)| key);
    let ours = |key: &str| [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&key) || pressures.contains(&key);
    let mut after: Vec<Taint> = before
        .iter()
        .filter(|own| !ours(&own.key) || wanted.contains(&(own.key.as_str(), own.effect.as_str())))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !after.iter().any(|own| own.key == *key && own.effect == *effect) {
            let at = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
            after.push(Taint {
                key: (*key).to_owned(),
                effect: (*effect).to_owned(),
                value: None,
                time_added: Some(at),
            });
        }
    }
    after
}

/// The conditions of a node of which nobody has heard, or never did.
fn unknown(node: &Node, now: Timestamp) -> Vec<Value> {
    let at = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let of = |kind: &&str| {
        let known = conditions(node).iter().find(|own| own.type_ == **kind);
        let (reason, message) = match known {
            Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
            None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
        };
        let since = known.filter(|own| own.status == "Unknown").and_then(|own| own.last_transition_time.clone());
        let since = since.map_or(at, |time| time.0);
        let mut condition = json!({
            "type": kind, "status": "Unknown", "reason": reason, "message": message, "lastTransitionTime": since,
        });
        if known.is_none() {
            condition["lastHeartbeatTime"] = json!(node.metadata.creation_timestamp);
        }
        condition
    };
    SELF_REPORTED.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(conditions: &[(&str, &str)], taints: Value) -> Node {
        let conditions: Vec<Value> =
            conditions.iter().map(|(kind, status)| json!({"type": kind, "status": status})).collect();
        let object = json!({
            "metadata": {"name": "n", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"taints": taints}, "status": {"conditions": conditions},
        });
        serde_json::from_value(object).expect("a node")
    }

    fn show(node: &Node, seconds_silent: i64, leave: Leave) -> String {
        let renewed: Timestamp = "2026-01-01T01:00:00Z".parse().expect("a time");
        let now = Timestamp::from_second(renewed.as_second() + seconds_silent).expect("a time");
        let plan = plan(node, Some(renewed), Timestamp::UNIX_EPOCH, now, || leave);
        let mut parts = Vec::new();
        if let Some(loss) = &plan.lost {
            let conditions: Vec<_> = loss
                .conditions
                .iter()
                .map(|own| {
                    format!(
                        "{}({})",
                        own["type"].as_str().unwrap_or_default(),
                        own["reason"].as_str().unwrap_or_default()
                    )
                })
                .collect();
            parts.push(format!("unknown {} was ready {}", conditions.join(","), loss.was_ready));
        }
        if let Some(taints) = &plan.taints {
            let short = |key: &str| key.trim_start_matches("node.kubernetes.io/").to_owned();
            let all: Vec<String> = taints.iter().map(|own| format!("{}:{}", short(&own.key), own.effect)).collect();
            parts.push(format!("taints {}", all.join(",")));
        }
        parts.push(format!("again {:?}", plan.again.map(|again| again.as_secs())));
        parts.join("; ")
    }

    #[test]
    fn silent_nodes_are_lost_and_those_that_are_not_well_are_tainted() {
        let ready = |status| node(&[("Ready", status)], json!([]));
        let moving = json!([
            {"key": "theirs", "effect": "NoExecute"}, {"key": NOT_READY, "effect": "NoSchedule"},
            {"key": NOT_READY, "effect": "NoExecute", "timeAdded": "2026-01-01T00:59:00Z"},
        ]);
        let later = Leave::Later(Duration::from_secs(7));
        let pressed = node(
            &[("Ready", "True"), ("MemoryPressure", "True"), ("DiskPressure", "False"), ("PIDPressure", "True")],
            json!([]),
        );
        let lines = [
            show(&ready("True"), 10, Leave::Now),
            show(&ready("True"), 60, Leave::Now),
            show(&ready("Unknown"), 60, Leave::Now),
            show(&ready("False"), 10, Leave::Now),
            show(&ready("False"), 10, later),
            show(&ready("False"), 10, Leave::Never),
            show(&node(&[("Ready", "False")], moving.clone()), 10, later),
            show(&node(&[("Ready", "False")], moving.clone()), 10, Leave::Never),
            show(&node(&[("Ready", "True")], moving), 10, Leave::Now),
            show(&pressed, 10, Leave::Now),
            show(&node(&[], json!([])), 55, Leave::Now),
            show(&node(&[], json!([])), 65, Leave::Now),
        ];
        expect_test::expect![[r#"
            again Some(40)
            unknown Ready(NodeStatusUnknown),MemoryPressure(NodeStatusNeverUpdated),DiskPressure(NodeStatusNeverUpdated),PIDPressure(NodeStatusNeverUpdated) was ready true; again None
            taints unreachable:NoSchedule,unreachable:NoExecute; again None
            taints not-ready:NoSchedule,not-ready:NoExecute; again Some(40)
            taints not-ready:NoSchedule; again Some(7)
            taints not-ready:NoSchedule; again Some(40)
            again Some(40)
            taints theirs:NoExecute,not-ready:NoSchedule; again Some(40)
            taints theirs:NoExecute; again Some(40)
            taints memory-pressure:NoSchedule,pid-pressure:NoSchedule; again Some(40)
            taints not-ready:NoSchedule; again Some(5)
            unknown Ready(NodeStatusNeverUpdated),MemoryPressure(NodeStatusNeverUpdated),DiskPressure(NodeStatusNeverUpdated),PIDPressure(NodeStatusNeverUpdated) was ready false; again None"#]].assert_eq(&lines.join("\n"));
    }
}
