//! What an autoscaler is given where the client says nothing.
//!
//! Source: pkg/apis/autoscaling/v2/defaults.go of Kubernetes v1.36.

use corten_api::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler, MetricSpec, MetricTarget, ResourceMetricSource,
};

/// Percent of the requested CPU that is aimed at.
const CPU: i32 = 80;
const PERIOD: i32 = 15;

pub(super) fn autoscaler(autoscaler: &mut HorizontalPodAutoscaler) {
    let spec = &mut autoscaler.spec;
    spec.min_replicas.get_or_insert(1);
    if spec.metrics.as_ref().is_none_or(Vec::is_empty) {
        spec.metrics = Some(vec![cpu(CPU)]);
    }
    // Rules are filled in where there are some; without any the controller follows the same ones.
    if let Some(behavior) = &mut spec.behavior {
        let policy = |kind: &str, value| HPAScalingPolicy { type_: kind.to_owned(), value, period_seconds: PERIOD };
        let up = behavior.scale_up.get_or_insert_default();
        up.stabilization_window_seconds.get_or_insert(0);
        rules(up, vec![policy("Pods", 4), policy("Percent", 100)]);
        rules(behavior.scale_down.get_or_insert_default(), vec![policy("Percent", 100)]);
    }
}

/// The metric that version 1 knows.
pub(super) fn cpu(percent: i32) -> MetricSpec {
    let target =
        MetricTarget { type_: "Utilization".to_owned(), average_utilization: Some(percent), ..MetricTarget::default() };
    let resource = Some(ResourceMetricSource { name: "cpu".to_owned(), target });
    MetricSpec { type_: "Resource".to_owned(), resource, ..MetricSpec::default() }
}

fn rules(rules: &mut HPAScalingRules, policies: Vec<HPAScalingPolicy>) {
    rules.select_policy.get_or_insert_with(|| "Max".to_owned());
    rules.policies.get_or_insert(policies);
}
