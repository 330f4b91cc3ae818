//! What a budget allows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corten_api::IntOrString;
use corten_api::api::core::v1::Pod;
use corten_api::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use corten_api::meta::{Condition, Time};
use corten_base::Timestamp;
use kube::ResourceExt;

use crate::amounts;
use crate::pods::is_ready;

/// So long an evicted pod is taken for gone although it is still there.
const PATIENCE: Duration = Duration::from_secs(120);
const ALLOWED: &str = "DisruptionAllowed";

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The status, if it changes.
    pub(super) status: Option<PodDisruptionBudgetStatus>,
    pub(super) events: Vec<Event>,
    /// Pods that should have gone.
    pub(super) overdue: Vec<Arc<Pod>>,
    /// When an evicted pod is late.
    pub(super) again: Option<Duration>,
}

/// What people are told of the budget.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) warning: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// Whether the budget is relative to how many pods their owners want.
pub(super) fn needs_scale(budget: &PodDisruptionBudget) -> bool {
    let spec = budget.spec.as_ref();
    spec.is_some_and(|spec| {
        spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
    })
}

/// Plans for a budget and its pods, of which their owners want so many (or why that cannot be known).
pub(super) fn plan(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    scale: Result<i32, String>,
    now: Timestamp,
) -> Plan {
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let mut plan = Plan::default();
    let before = budget.status.clone().unwrap_or_default();
    let generation = budget.metadata.generation;
    if pods.is_empty() {
        let message = "No matching pods found".to_owned();
        plan.events.push(Event { warning: false, reason: "NoPods", message });
    }
    let mut status = before.clone();
    match expected(budget, pods, scale) {
        Err(why) => {
            let message = format!("Failed to calculate the number of expected pods: {why}");
            plan.events.push(Event { warning: true, reason: "CalculateExpectedPodCountFailed", message });
            // What is not known allows nothing.
            status.disruptions_allowed = Some(0);
            set_allowed(&mut status, generation, (false, "SyncFailed", &why), now);
        }
        Ok((wanted, desired)) => {
            let disrupted = disrupted(budget, pods, now, &mut plan);
            let alive = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
            let healthy = alive.filter(|pod| is_ready(pod) && !disrupted.contains_key(&pod.name_any())).count();
            let healthy = i32::try_from(healthy).unwrap_or(i32::MAX);
            let allowed = if wanted > 0 { healthy.saturating_sub(desired).max(0) } else { 0 };
            status.current_healthy = Some(healthy);
            status.desired_healthy = Some(desired);
            status.expected_pods = Some(wanted);
            status.disruptions_allowed = Some(allowed);
            status.disrupted_pods = Some(disrupted).filter(|pods| !pods.is_empty());
            status.observed_generation = generation;
            let reason = if allowed > 0 { "SufficientPods" } else { "InsufficientPods" };
            set_allowed(&mut status, generation, (allowed > 0, reason, ""), now);
        }
    }
    plan.status = (status != before || budget.status.is_none()).then_some(status);
    plan
}

/// How many pods there should be, and how many of them healthy.
fn expected(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], scale: Result<i32, String>) -> Result<(i32, i32), String> {
    let Some(spec) = &budget.spec else { return Ok((0, 0)) };
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => {
            let scale = scale?;
            Ok((scale, (scale - amounts::of(scale, Some(most), true)).max(0)))
        }
        (None, Some(IntOrString::Int(least))) => Ok((i32::try_from(pods.len()).unwrap_or(i32::MAX), *least)),
        (None, Some(least)) => {
            let scale = scale?;
            Ok((scale, amounts::of(scale, Some(least), true)))
        }
        (None, None) => Ok((0, 0)),
    }
}

/// The pods that were evicted and are not gone yet.
fn disrupted(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    now: Timestamp,
    plan: &mut Plan,
) -> BTreeMap<String, Time> {
    let before = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
    let mut still = BTreeMap::new();
    for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let Some(since) = before.and_then(|before| before.get(&pod.name_any())) else { continue };
        let left = PATIENCE.saturating_sub(Duration::try_from(now.duration_since(since.0)).unwrap_or_default());
        if left.is_zero() {
            plan.overdue.push(Arc::clone(pod));
        } else {
            plan.again = Some(plan.again.map_or(left, |again| again.min(left)));
            still.insert(pod.name_any(), since.clone());
        }
    }
    still
}

fn set_allowed(
    status: &mut PodDisruptionBudgetStatus,
    generation: Option<i64>,
    (allowed, reason, message): (bool, &str, &str),
    now: Timestamp,
) {
    let text = if allowed { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let before = conditions.iter().position(|own| own.type_ == ALLOWED).map(|at| conditions.remove(at));
    let since = before.filter(|own| own.status == text).map_or(Time(now), |own| own.last_transition_time);
    conditions.push(Condition {
        type_: ALLOWED.to_owned(),
        status: text.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: since,
    });
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + seconds).expect("a time")
    }

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        let object =
            json!({"metadata": {"name": "b", "namespace": "a", "generation": 2}, "spec": spec, "status": status});
        serde_json::from_value(object).expect("a budget")
    }

    /// `ready`, `unready` or `leaving` pods, named by their place.
    fn pods(states: &[&str]) -> Vec<Arc<Pod>> {
        let pod = |(at_index, state): (usize, &&str)| {
            let ready = if *state == "unready" { "False" } else { "True" };
            let mut object = json!({"metadata": {"name": format!("p{at_index}")}, "status": {"conditions": [{"type": "Ready", "status": ready}]}});
            if *state == "leaving" {
                object["metadata"]["deletionTimestamp"] = json!(at(0));
            }
            Arc::new(serde_json::from_value(object).expect("a pod"))
        };
        states.iter().enumerate().map(pod).collect()
    }

    fn show(spec: Value, status: Value, states: &[&str], scale: Result<i32, &str>, seconds: i64) -> String {
        let plan = plan(&budget(spec, status), &pods(states), scale.map_err(str::to_owned), at(seconds));
        let mut text = plan.status.map_or_else(
            || "unchanged".to_owned(),
            |status| {
                let number = |value: Option<i32>| value.unwrap_or(0);
                let reasons: Vec<_> = status.conditions.iter().flatten().map(|own| own.reason.clone()).collect();
                format!(
                    "{} of {} healthy, {} desired: {} may go ({}); evicted {:?}",
                    number(status.current_healthy),
                    number(status.expected_pods),
                    number(status.desired_healthy),
                    number(status.disruptions_allowed),
                    reasons.join(","),
                    status.disrupted_pods.map(|pods| pods.into_keys().collect::<Vec<_>>()).unwrap_or_default(),
                )
            },
        );
        plan.events.iter().for_each(|event| text += &format!("; event {}", event.reason));
        plan.overdue.iter().for_each(|pod| text += &format!("; overdue {}", pod.name_any()));
        plan.again.iter().for_each(|again| text += &format!("; again {}", again.as_secs()));
        text
    }

    #[test]
    fn budgets_allow_what_is_healthy_beyond_what_is_needed() {
        let three = ["ready", "ready", "ready"];
        let evicted = json!({"disruptedPods": {"p0": at(0), "gone": at(0)}});
        let lines = [
            show(json!({"minAvailable": 2}), json!({}), &three, Ok(0), 0),
            show(json!({"minAvailable": 2}), json!({}), &["ready", "unready", "leaving"], Ok(0), 0),
            show(json!({"minAvailable": "50%"}), json!({}), &three, Ok(3), 0),
            show(json!({"maxUnavailable": 1}), json!({}), &three, Ok(3), 0),
            show(json!({"maxUnavailable": 1}), json!({}), &three, Ok(5), 0),
            show(json!({"maxUnavailable": "30%"}), json!({}), &three, Ok(3), 0),
            show(json!({"maxUnavailable": "100%"}), json!({}), &three, Ok(3), 0),
            show(json!({"maxUnavailable": 1}), json!({}), &[], Ok(0), 0),
            show(json!({"maxUnavailable": 1}), json!({}), &three, Err("found no controllers for pod \"p0\""), 0),
            show(json!({}), json!({}), &three, Ok(0), 0),
            show(json!({"minAvailable": 1}), evicted.clone(), &three, Ok(0), 30),
            show(json!({"minAvailable": 1}), evicted, &three, Ok(0), 121),
        ];
        expect_test::expect![[r#"
            3 of 3 healthy, 2 desired: 1 may go (SufficientPods); evicted []
            1 of 3 healthy, 2 desired: 0 may go (InsufficientPods); evicted []
            3 of 3 healthy, 2 desired: 1 may go (SufficientPods); evicted []
            3 of 3 healthy, 2 desired: 1 may go (SufficientPods); evicted []
            3 of 5 healthy, 4 desired: 0 may go (InsufficientPods); evicted []
            3 of 3 healthy, 2 desired: 1 may go (SufficientPods); evicted []
            3 of 3 healthy, 0 desired: 3 may go (SufficientPods); evicted []
            0 of 0 healthy, 0 desired: 0 may go (InsufficientPods); evicted []; event NoPods
            0 of 0 healthy, 0 desired: 0 may go (SyncFailed); evicted []; event CalculateExpectedPodCountFailed
            3 of 0 healthy, 0 desired: 0 may go (InsufficientPods); evicted []
            2 of 3 healthy, 1 desired: 1 may go (SufficientPods); evicted ["p0"]; again 90
            3 of 3 healthy, 1 desired: 2 may go (SufficientPods); evicted []; overdue p0"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn a_budget_that_is_settled_is_left_alone() {
        let mut own = budget(json!({"minAvailable": 2}), json!({}));
        let pods = pods(&["ready", "ready", "ready"]);
        own.status = plan(&own, &pods, Ok(0), at(0)).status;
        assert_eq!(plan(&own, &pods, Ok(0), at(60)).status, None);
        // What else is written there stays.
        let more = json!({"conditions": [{"type": "Own", "status": "True", "reason": "Own", "message": "", "lastTransitionTime": at(0)}]});
        let status = plan(&budget(json!({"minAvailable": 2}), more), &pods, Ok(0), at(0)).status.expect("a status");
        assert_eq!(status.conditions.map(|all| all.len()), Some(2));
    }
}
