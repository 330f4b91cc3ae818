//! How many replicas a target gets, and what the autoscaler says of it: pure.

use corten_api::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus, MetricStatus,
};
use corten_api::meta::Time;
use corten_base::Timestamp;

use super::behavior::{History, limit};

/// What one metric said.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) replicas: i32,
    /// What it is called in conditions and events.
    pub(super) name: String,
    pub(super) status: MetricStatus,
}

/// Why a metric said nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// What is to be done.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// Another number of replicas, and why.
    pub(super) scale: Option<(i32, String)>,
    /// The status, as if the number were set.
    pub(super) status: HorizontalPodAutoscalerStatus,
    /// Reason and message of what went wrong.
    pub(super) trouble: Vec<(&'static str, String)>,
}

/// Conditions of an autoscaler that is worked on.
pub(super) struct Conditions {
    list: Vec<HorizontalPodAutoscalerCondition>,
    now: Timestamp,
}

impl Conditions {
    pub(super) fn of(autoscaler: &HorizontalPodAutoscaler, now: Timestamp) -> Self {
        let status = autoscaler.status.as_ref();
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        Self { list: status.and_then(|status| status.conditions.clone()).unwrap_or_default(), now }
    }

    pub(super) fn set(&mut self, type_: &str, holds: bool, reason: &str, message: impl Into<String>) {
        let status = if holds { "True" } else { "False" };
        let known = self.list.iter().find(|own| own.type_ == type_ && own.status == status);
        let since = known.and_then(|own| own.last_transition_time.clone()).unwrap_or(Time(self.now));
        let condition = HorizontalPodAutoscalerCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.into()),
            last_transition_time: Some(since),
        };
        match self.list.iter_mut().find(|own| own.type_ == type_) {
            Some(own) => *own = condition,
            None => self.list.push(condition),
        }
    }

    pub(super) fn list(self) -> Option<Vec<HorizontalPodAutoscalerCondition>> {
        Some(self.list).filter(|list| !list.is_empty())
    }
}

/// Decides. `readings` are those of the metrics in the spec's order; nobody needs them if the number of replicas is
/// outside its bounds or zero.
pub(super) fn plan(
    autoscaler: &HorizontalPodAutoscaler,
    current: i32,
    readings: &[Result<Reading, Failure>],
    history: &mut History,
    now: Timestamp,
) -> Plan {
    let spec = &autoscaler.spec;
    let before = autoscaler.status.clone().unwrap_or_default();
    let mut conditions = Conditions::of(autoscaler, now);
    conditions.set(
        "AbleToScale",
        true,
        "SucceededGetScale",
        "the HPA controller was able to get the target's current scale",
    );
    let mut plan = Plan::default();
    let (minimum, maximum) = (spec.min_replicas.unwrap_or(1), spec.max_replicas);
    let mut desired = current;
    let mut known = before.current_metrics.clone();
    let mut reason = String::new();
    if !needs_metrics(autoscaler, current) {
        if current == 0 && minimum != 0 {
            let message = "scaling is disabled since the replica count of the target is zero";
            conditions.set("ScalingActive", false, "ScalingDisabled", message);
        } else if current > maximum {
            desired = maximum;
            "Current number of replicas above Spec.MaxReplicas".clone_into(&mut reason);
        } else {
            desired = minimum;
            "Current number of replicas below Spec.MinReplicas".clone_into(&mut reason);
        }
    } else {
        let statuses: Vec<MetricStatus> = readings.iter().flatten().map(|reading| reading.status.clone()).collect();
        known = Some(statuses).filter(|statuses| !statuses.is_empty());
        match most(readings, current) {
            Ok(most) => {
                let message = format!("the HPA was able to successfully calculate a replica count from {}", most.name);
                conditions.set("ScalingActive", true, "ValidMetricFound", message);
                history.recommend(most.replicas, now);
                let limited = limit(spec, current, most.replicas, history, now);
                conditions.set("AbleToScale", true, limited.able.0, limited.able.1);
                conditions.set("ScalingLimited", limited.limited.0, limited.limited.1, limited.limited.2);
                desired = limited.replicas;
                reason = if desired < current {
                    "All metrics below target".to_owned()
                } else {
                    format!("{} above target", most.name)
                };
            }
            Err(failure) => {
                conditions.set("ScalingActive", false, failure.reason, failure.message.clone());
                let failed = readings.iter().filter(|reading| reading.is_err()).count();
                let message = format!(
                    "invalid metrics ({failed} invalid out of {}), first error is: {}",
                    readings.len(),
                    failure.message
                );
                plan.trouble.push((failure.reason, failure.message));
                plan.trouble.push(("FailedComputeMetricsReplicas", message));
            }
        }
    }
    let mut last = before.last_scale_time;
    if desired != current {
        let message = format!("the HPA controller was able to update the target scale to {desired}");
        conditions.set("AbleToScale", true, "SucceededRescale", message);
        last = Some(Time(Timestamp::from_second(now.as_second()).unwrap_or(now)));
        plan.scale = Some((desired, reason));
    }
    plan.status = HorizontalPodAutoscalerStatus {
        current_replicas: Some(current),
        desired_replicas: desired,
        current_metrics: known,
        last_scale_time: last,
        observed_generation: autoscaler.metadata.generation,
        conditions: conditions.list(),
    };
    plan
}

/// Whether the metrics have a say: they have none in what is outside its bounds or switched off.
pub(super) fn needs_metrics(autoscaler: &HorizontalPodAutoscaler, current: i32) -> bool {
    let minimum = autoscaler.spec.min_replicas.unwrap_or(1);
    current >= minimum && current <= autoscaler.spec.max_replicas && (current > 0 || minimum == 0)
}

/// The reading that calls for most. If some metrics are silent, the others may only call for more.
fn most(readings: &[Result<Reading, Failure>], current: i32) -> Result<&Reading, Failure> {
    let found = readings.iter().flatten().reduce(|most, own| if own.replicas > most.replicas { own } else { most });
    let failure = readings.iter().find_map(|reading| reading.as_ref().err());
    match (found, failure) {
        (Some(found), None) => Ok(found),
        (Some(found), Some(_)) if found.replicas >= current => Ok(found),
        (_, Some(failure)) => Err(failure.clone()),
        (None, None) => {
            Err(Failure { reason: "InvalidMetricSourceType", message: "the HPA has no metrics".to_owned() })
        }
    }
}
