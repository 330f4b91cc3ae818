//! How fast the number of pods may follow what the metrics say: pure.
//!
//! Spec: <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#configurable-scaling-behavior>

use std::time::Duration;

use corten_api::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerSpec};
use corten_base::Timestamp;

use super::replicas::ceil;

/// What was recommended and done before, as far as this process remembers.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// What the metrics said.
    pub(super) recommendations: Vec<(Timestamp, i32)>,
    /// By how much the number grew.
    pub(super) ups: Vec<(Timestamp, i32)>,
    /// By how much it shrank.
    pub(super) downs: Vec<(Timestamp, i32)>,
}

/// The longest time that a rule may look back.
const MEMORY: Duration = Duration::from_secs(3600);

impl History {
    /// Notes what the metrics say now.
    pub(super) fn recommend(&mut self, replicas: i32, now: Timestamp) {
        self.recommendations.push((now, replicas));
        for list in [&mut self.recommendations, &mut self.ups, &mut self.downs] {
            list.retain(|(at, _)| *at + MEMORY >= now);
        }
    }

    /// Notes a change that was made.
    pub(super) fn changed(&mut self, from: i32, to: i32, now: Timestamp) {
        if to > from {
            self.ups.push((now, to - from));
        } else {
            self.downs.push((now, from - to));
        }
    }
}

/// A number within all limits, and why it is not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limited {
    pub(super) replicas: i32,
    /// Reason and message of the condition AbleToScale.
    pub(super) able: (&'static str, &'static str),
    /// Reason and message of the condition ScalingLimited; whether it is.
    pub(super) limited: (bool, &'static str, &'static str),
}

/// What may be done now of what the metrics say. `history` has this recommendation already.
pub(super) fn limit(
    spec: &HorizontalPodAutoscalerSpec,
    current: i32,
    desired: i32,
    history: &History,
    now: Timestamp,
) -> Limited {
    let behavior = spec.behavior.clone().unwrap_or_default();
    let (up, down) = (rules(behavior.scale_up, &UP), rules(behavior.scale_down, &DOWN));
    let stable = stabilized(current, desired, history, (window(&up), window(&down)), now);
    let able = if stable == desired {
        ("ReadyForNewScale", "recommended size matches current size")
    } else if desired > stable {
        (
            "ScaleUpStabilized",
            "recent recommendations were lower than current one, applying the lowest recent recommendation",
        )
    } else {
        (
            "ScaleDownStabilized",
            "recent recommendations were higher than current one, applying the highest recent recommendation",
        )
    };
    let (replicas, limited) = bounded(spec, current, stable, history, (&up, &down), now);
    Limited { replicas, able, limited }
}

/// Defaults of a direction: how long to look back, and policies of so many percent or pods in 15 seconds.
struct Defaults {
    window: i32,
    policies: &'static [(&'static str, i32)],
}

const UP: Defaults = Defaults { window: 0, policies: &[("Pods", 4), ("Percent", 100)] };
const DOWN: Defaults = Defaults { window: 300, policies: &[("Percent", 100)] };

/// The rules with what they leave out.
fn rules(given: Option<HPAScalingRules>, defaults: &Defaults) -> HPAScalingRules {
    let mut rules = given.unwrap_or_default();
    rules.stabilization_window_seconds.get_or_insert(defaults.window);
    rules.select_policy.get_or_insert_with(|| "Max".to_owned());
    if rules.policies.as_ref().is_none_or(Vec::is_empty) {
        let policy = |(type_, value): &(&str, i32)| HPAScalingPolicy {
            type_: (*type_).to_owned(),
            value: *value,
            period_seconds: 15,
        };
        rules.policies = Some(defaults.policies.iter().map(policy).collect());
    }
    rules
}

fn window(rules: &HPAScalingRules) -> Duration {
    seconds(rules.stabilization_window_seconds.unwrap_or(0))
}

fn seconds(number: i32) -> Duration {
    Duration::from_secs(u64::try_from(number).unwrap_or(0))
}

/// The least of what was recommended of late if it is more, the most if it is less.
fn stabilized(current: i32, desired: i32, history: &History, (up, down): (Duration, Duration), now: Timestamp) -> i32 {
    let recent = |window: Duration| {
        history.recommendations.iter().filter(move |(at, _)| *at + window > now).map(|(_, replicas)| *replicas)
    };
    let least = recent(up).min().unwrap_or(desired).min(desired);
    let most = recent(down).max().unwrap_or(desired).max(desired);
    // A window for growth never shrinks anything, and the other way round.
    if current < least {
        least
    } else if current > most {
        most
    } else {
        current
    }
}

fn bounded(
    spec: &HorizontalPodAutoscalerSpec,
    current: i32,
    desired: i32,
    history: &History,
    (up, down): (&HPAScalingRules, &HPAScalingRules),
    now: Timestamp,
) -> (i32, (bool, &'static str, &'static str)) {
    if desired > current {
        // Whatever was just done is never taken back by a limit.
        let most = most(up, current, history, now).max(current);
        let (allowed, reason, message) = if spec.max_replicas > most {
            (most, "ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
        } else {
            (spec.max_replicas, "TooManyReplicas", "the desired replica count is more than the maximum replica count")
        };
        if desired > allowed {
            return (allowed, (true, reason, message));
        }
    } else if desired < current {
        let least = least(down, current, history, now).min(current);
        let minimum = spec.min_replicas.unwrap_or(1);
        let (allowed, reason, message) = if minimum < least {
            (least, "ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")
        } else {
            (minimum, "TooFewReplicas", "the desired replica count is less than the minimum replica count")
        };
        if desired < allowed {
            return (allowed, (true, reason, message));
        }
    }
    (desired, (false, "DesiredWithinRange", "the desired count is within the acceptable range"))
}

/// How many there were at the beginning of a policy's period.
fn before(current: i32, period: i32, history: &History, now: Timestamp) -> i32 {
    let sum = |list: &[(Timestamp, i32)]| -> i32 {
        list.iter().filter(|(at, _)| *at + seconds(period) > now).map(|(_, change)| *change).sum()
    };
    current - sum(&history.ups) + sum(&history.downs)
}

fn most(rules: &HPAScalingRules, current: i32, history: &History, now: Timestamp) -> i32 {
    let limits = rules.policies.iter().flatten().map(|policy| {
        let before = before(current, policy.period_seconds, history, now);
        match policy.type_.as_str() {
            "Pods" => before.saturating_add(policy.value),
            _ => ceil(f64::from(before) * (1.0 + f64::from(policy.value) / 100.0)),
        }
    });
    match rules.select_policy.as_deref() {
        Some("Disabled") => Some(current),
        Some("Min") => limits.min(),
        _ => limits.max(),
    }
    .unwrap_or(current)
}

fn least(rules: &HPAScalingRules, current: i32, history: &History, now: Timestamp) -> i32 {
    let limits = rules.policies.iter().flatten().map(|policy| {
        let before = before(current, policy.period_seconds, history, now);
        match policy.type_.as_str() {
            "Pods" => before.saturating_sub(policy.value),
            // Rounded down: at least one goes as soon as any may.
            _ => (i64::from(before) * i64::from(100 - policy.value.min(100)) / 100).try_into().unwrap_or(0),
        }
    });
    // The most change is the smallest number here.
    match rules.select_policy.as_deref() {
        Some("Disabled") => Some(current),
        Some("Min") => limits.max(),
        _ => limits.min(),
    }
    .unwrap_or(current)
}
