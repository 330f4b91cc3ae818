//! How `kubectl get hpa` shows an autoscaler.

use corten_api::api::autoscaling::v2::{
    HorizontalPodAutoscaler, MetricSpec, MetricStatus, MetricTarget, MetricValueStatus,
};
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::ColumnHead;
use crate::table::{NAME, age, column};

const UNKNOWN: &str = "<unknown>";
/// So many metrics are shown one by one.
const MOST: usize = 2;

pub(super) const COLUMNS: &[ColumnHead] = &[
    NAME,
    column("Reference"),
    column("Targets"),
    column("MinPods"),
    column("MaxPods"),
    column("Replicas"),
    column("Age"),
];

pub(super) fn cells(autoscaler: &HorizontalPodAutoscaler, now: Timestamp) -> Vec<Value> {
    let spec = &autoscaler.spec;
    let status = autoscaler.status.clone().unwrap_or_default();
    let current = status.current_metrics.as_deref().unwrap_or_default();
    vec![
        json!(autoscaler.metadata.name),
        format!("{}/{}", spec.scale_target_ref.kind, spec.scale_target_ref.name).into(),
        targets(spec.metrics.as_deref().unwrap_or_default(), current).into(),
        spec.min_replicas.map_or_else(|| "<unset>".to_owned(), |min| min.to_string()).into(),
        json!(spec.max_replicas),
        json!(status.current_replicas.unwrap_or(0)),
        age(autoscaler.metadata.creation_timestamp.as_ref(), now).into(),
    ]
}

fn targets(metrics: &[MetricSpec], statuses: &[MetricStatus]) -> String {
    if metrics.is_empty() {
        return "<none>".to_owned();
    }
    let shown: Vec<String> =
        metrics.iter().take(MOST).enumerate().map(|(index, metric)| one(metric, statuses.get(index))).collect();
    let shown = shown.join(", ");
    if metrics.len() > MOST { format!("{shown} + {} more...", metrics.len() - MOST) } else { shown }
}

/// `cpu: 10%/80%`: what is, and what is aimed at.
fn one(metric: &MetricSpec, status: Option<&MetricStatus>) -> String {
    let status = status.cloned().unwrap_or_default();
    match metric.type_.as_str() {
        "External" => {
            let Some(source) = &metric.external else { return UNKNOWN.to_owned() };
            value(&source.target, status.external.map(|status| status.current).as_ref())
        }
        "Object" => {
            let Some(source) = &metric.object else { return UNKNOWN.to_owned() };
            value(&source.target, status.object.map(|status| status.current).as_ref())
        }
        "Pods" => {
            let Some(source) = &metric.pods else { return UNKNOWN.to_owned() };
            average(&source.target, status.pods.map(|status| status.current).as_ref())
        }
        "Resource" => {
            let Some(source) = &metric.resource else { return UNKNOWN.to_owned() };
            let current = status.resource.map(|status| status.current);
            format!("{}: {}", source.name, resource(&source.target, current.as_ref()))
        }
        "ContainerResource" => {
            let Some(source) = &metric.container_resource else { return UNKNOWN.to_owned() };
            let current = status.container_resource.map(|status| status.current);
            format!("{}: {}", source.name, resource(&source.target, current.as_ref()))
        }
        _ => "<unknown type>".to_owned(),
    }
}

fn average(target: &MetricTarget, current: Option<&MetricValueStatus>) -> String {
    let current = current.and_then(|current| current.average_value.as_ref());
    let target = target.average_value.as_ref().map_or(UNKNOWN, |value| &value.0);
    format!("{}/{target}", current.map_or(UNKNOWN, |value| &value.0))
}

fn value(target: &MetricTarget, current: Option<&MetricValueStatus>) -> String {
    if target.average_value.is_some() {
        return format!("{} (avg)", average(target, current));
    }
    let current = current.and_then(|current| current.value.as_ref()).map_or(UNKNOWN, |value| &value.0);
    format!("{current}/{}", target.value.as_ref().map_or(UNKNOWN, |value| &value.0))
}

fn resource(target: &MetricTarget, current: Option<&MetricValueStatus>) -> String {
    if target.average_value.is_some() {
        return average(target, current);
    }
    let percent = |percent: Option<i32>, none: &str| percent.map_or_else(|| none.to_owned(), |it| format!("{it}%"));
    let current = percent(current.and_then(|current| current.average_utilization), UNKNOWN);
    format!("{current}/{}", percent(target.average_utilization, "<auto>"))
}
