//! Version 1 of autoscalers, which knows CPU alone: everything else is in annotations.
//!
//! Shapes in the annotations: the unpublished types of k8s.io/api/autoscaling/v1, whose fields have older names.

use std::collections::BTreeMap;

use corten_api::api::autoscaling::{v1, v2};
use corten_api::names::Names;
use corten_api::status::Status;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{BEHAVIOR, CONDITIONS, CURRENT_METRICS, HorizontalPodAutoscalers, METRICS, defaults, names};
use crate::kind::Erased;
use crate::view::View;

pub(crate) struct HorizontalPodAutoscalersV1;

impl View for HorizontalPodAutoscalersV1 {
    type Object = v1::HorizontalPodAutoscaler;
    type Hub = HorizontalPodAutoscalers;

    const HUB: &'static Erased<HorizontalPodAutoscalers> = &Erased(HorizontalPodAutoscalers);
    const NAMES: Names = names("v1");

    fn to_hub(view: v1::HorizontalPodAutoscaler) -> Result<v2::HorizontalPodAutoscaler, Status> {
        let v1::HorizontalPodAutoscaler { mut metadata, spec, status } = view;
        let annotations = metadata.annotations.get_or_insert_default();
        // What cannot be read is dropped, as upstream does.
        let old: Vec<Value> = take(annotations, METRICS).unwrap_or_default();
        let mut metrics: Vec<v2::MetricSpec> = old.iter().filter_map(spec_of_old).collect();
        metrics.extend(spec.target_cpu_utilization_percentage.map(defaults::cpu));
        let behavior = take(annotations, BEHAVIOR);
        let conditions = take(annotations, CONDITIONS);
        let current: Option<Vec<Value>> = take(annotations, CURRENT_METRICS);
        let status = status.unwrap_or_default();
        let current_metrics = match current {
            Some(current) => Some(current.iter().filter_map(status_of_old).collect()),
            None => status.current_cpu_utilization_percentage.map(|percent| vec![current_cpu(percent)]),
        };
        if annotations.is_empty() {
            metadata.annotations = None;
        }
        Ok(v2::HorizontalPodAutoscaler {
            metadata,
            spec: v2::HorizontalPodAutoscalerSpec {
                behavior,
                max_replicas: spec.max_replicas,
                metrics: Some(metrics).filter(|metrics| !metrics.is_empty()),
                min_replicas: spec.min_replicas,
                scale_target_ref: v2::CrossVersionObjectReference {
                    api_version: spec.scale_target_ref.api_version,
                    kind: spec.scale_target_ref.kind,
                    name: spec.scale_target_ref.name,
                },
            },
            status: Some(v2::HorizontalPodAutoscalerStatus {
                conditions,
                current_metrics,
                current_replicas: Some(status.current_replicas),
                desired_replicas: status.desired_replicas,
                last_scale_time: status.last_scale_time,
                observed_generation: status.observed_generation,
            }),
        })
    }

    fn of_hub(hub: v2::HorizontalPodAutoscaler) -> Result<v1::HorizontalPodAutoscaler, Status> {
        let v2::HorizontalPodAutoscaler { mut metadata, spec, status } = hub;
        let status = status.unwrap_or_default();
        let annotations = metadata.annotations.get_or_insert_default();
        let metrics = spec.metrics.unwrap_or_default();
        let percent = metrics.iter().find_map(cpu_percent);
        let others: Vec<Value> =
            metrics.iter().filter(|metric| cpu_percent(metric).is_none()).map(old_of_spec).collect();
        put(annotations, METRICS, &others)?;
        let current = status.current_metrics.unwrap_or_default();
        put(annotations, CURRENT_METRICS, &current.iter().map(old_of_status).collect::<Vec<_>>())?;
        put(annotations, CONDITIONS, &status.conditions.unwrap_or_default())?;
        if let Some(behavior) = spec.behavior {
            let text = serde_json::to_string(&behavior).map_err(Status::internal)?;
            annotations.insert(BEHAVIOR.to_owned(), text);
        }
        if annotations.is_empty() {
            metadata.annotations = None;
        }
        let current_percent = current.iter().rev().find_map(|metric| {
            metric.resource.as_ref().filter(|of| of.name == "cpu").and_then(|of| of.current.average_utilization)
        });
        Ok(v1::HorizontalPodAutoscaler {
            metadata,
            spec: v1::HorizontalPodAutoscalerSpec {
                max_replicas: spec.max_replicas,
                min_replicas: spec.min_replicas,
                scale_target_ref: v1::CrossVersionObjectReference {
                    api_version: spec.scale_target_ref.api_version,
                    kind: spec.scale_target_ref.kind,
                    name: spec.scale_target_ref.name,
                },
                target_cpu_utilization_percentage: percent,
            },
            status: Some(v1::HorizontalPodAutoscalerStatus {
                current_cpu_utilization_percentage: current_percent,
                current_replicas: status.current_replicas.unwrap_or(0),
                desired_replicas: status.desired_replicas,
                last_scale_time: status.last_scale_time,
                observed_generation: status.observed_generation,
            }),
        })
    }
}

fn take<T: DeserializeOwned>(annotations: &mut BTreeMap<String, String>, key: &str) -> Option<T> {
    serde_json::from_str(&annotations.remove(key)?).ok()
}

/// Puts what is not empty into an annotation.
fn put<T: Serialize>(annotations: &mut BTreeMap<String, String>, key: &str, items: &[T]) -> Result<(), Status> {
    if !items.is_empty() {
        annotations.insert(key.to_owned(), serde_json::to_string(items).map_err(Status::internal)?);
    }
    Ok(())
}

/// The percentage of CPU that a metric aims at, if that is what it does.
fn cpu_percent(metric: &v2::MetricSpec) -> Option<i32> {
    let resource = metric.resource.as_ref().filter(|of| metric.type_ == "Resource" && of.name == "cpu")?;
    resource.target.average_utilization
}

fn current_cpu(percent: i32) -> v2::MetricStatus {
    let current = v2::MetricValueStatus { average_utilization: Some(percent), ..Default::default() };
    let resource = Some(v2::ResourceMetricStatus { name: "cpu".to_owned(), current });
    v2::MetricStatus { type_: "Resource".to_owned(), resource, ..Default::default() }
}

/// What a source of metrics and its fields are called in both versions: its path in version 2, its name in version 1.
type Renames = &'static [(&'static [&'static str], &'static str)];

/// Fields of sources. A status has the same ones, with `Current` for `Target` (see `old_name`).
const SOURCES: [(&str, Renames); 5] = [
    (
        "object",
        &[
            (&["describedObject"], "target"),
            (&["metric", "name"], "metricName"),
            (&["metric", "selector"], "selector"),
            (&["target", "value"], "targetValue"),
            (&["target", "averageValue"], "averageValue"),
        ],
    ),
    (
        "pods",
        &[
            (&["metric", "name"], "metricName"),
            (&["metric", "selector"], "selector"),
            (&["target", "averageValue"], "targetAverageValue"),
        ],
    ),
    (
        "resource",
        &[
            (&["name"], "name"),
            (&["target", "averageUtilization"], "targetAverageUtilization"),
            (&["target", "averageValue"], "targetAverageValue"),
        ],
    ),
    (
        "containerResource",
        &[
            (&["name"], "name"),
            (&["container"], "container"),
            (&["target", "averageUtilization"], "targetAverageUtilization"),
            (&["target", "averageValue"], "targetAverageValue"),
        ],
    ),
    (
        "external",
        &[
            (&["metric", "name"], "metricName"),
            (&["metric", "selector"], "metricSelector"),
            (&["target", "value"], "targetValue"),
            (&["target", "averageValue"], "targetAverageValue"),
        ],
    ),
];

/// Whether metrics to follow or their last values are converted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Spec,
    Status,
}

impl Side {
    /// A part of a path in version 2.
    fn new_name(self, name: &'static str) -> &'static str {
        if self == Self::Status && name == "target" { "current" } else { name }
    }

    /// A field in version 1.
    fn old_name(self, name: &'static str) -> String {
        match name.strip_prefix("target").filter(|rest| self == Self::Status && !rest.is_empty()) {
            Some(rest) => format!("current{rest}"),
            None => name.to_owned(),
        }
    }
}

fn old_of_spec(metric: &v2::MetricSpec) -> Value {
    serde_json::to_value(metric).map_or(Value::Null, |metric| to_old(&metric, Side::Spec))
}

fn old_of_status(metric: &v2::MetricStatus) -> Value {
    serde_json::to_value(metric).map_or(Value::Null, |metric| to_old(&metric, Side::Status))
}

fn spec_of_old(metric: &Value) -> Option<v2::MetricSpec> {
    serde_json::from_value(of_old(metric, Side::Spec)).ok()
}

fn status_of_old(metric: &Value) -> Option<v2::MetricStatus> {
    serde_json::from_value(of_old(metric, Side::Status)).ok()
}

fn to_old(metric: &Value, side: Side) -> Value {
    let mut old = Map::new();
    old.insert("type".to_owned(), metric["type"].clone());
    for (source, fields) in SOURCES.iter().filter(|(source, _)| metric[*source].is_object()) {
        let mut inner = Map::new();
        for (path, name) in *fields {
            let value = path.iter().fold(&metric[*source], |value, part| &value[side.new_name(part)]);
            if !value.is_null() {
                inner.insert(side.old_name(name), value.clone());
            }
        }
        old.insert((*source).to_owned(), inner.into());
    }
    old.into()
}

fn of_old(metric: &Value, side: Side) -> Value {
    let mut new = json!({"type": metric["type"]});
    for (source, fields) in SOURCES.iter().filter(|(source, _)| metric[*source].is_object()) {
        let (old, mut inner) = (&metric[*source], json!({}));
        for (path, name) in *fields {
            let value = &old[&side.old_name(name)];
            // The amounts that upstream's version 1 demands are zero where there is none.
            let is_nothing = value == "0" && side == Side::Spec;
            if !value.is_null() && !is_nothing {
                let place = path.iter().fold(&mut inner, |place, part| &mut place[side.new_name(part)]);
                *place = value.clone();
            }
        }
        if side == Side::Spec {
            inner["target"]["type"] = target_type(&inner["target"]).into();
        }
        new[*source] = inner;
    }
    new
}

/// What kind of target it is, which version 1 leaves to be guessed.
fn target_type(target: &Value) -> &'static str {
    if !target["averageUtilization"].is_null() {
        "Utilization"
    } else if !target["averageValue"].is_null() {
        "AverageValue"
    } else {
        "Value"
    }
}
