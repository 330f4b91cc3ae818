//! Metrics that an autoscaler follows, and their targets.

use corten_api::api::autoscaling::v2::{MetricIdentifier, MetricSpec, MetricTarget};
use corten_api::field::FieldErrors;
use corten_api::k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use corten_api::quantity::Quantity;

use super::validate::{reference, segment};
use crate::meta::label_problems;

const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
const BOTH: &str = "may not set both a target raw value and a target utilization";
const NEITHER: &str = "must set either a target raw value or a target utilization";

pub(super) fn parsed(text: &Text) -> Quantity {
    Quantity::of(text).unwrap_or(Quantity::ZERO)
}

pub(super) fn validate(metric: &MetricSpec, path: &str, errs: &mut FieldErrors) {
    let kind = metric.type_.as_str();
    if kind.is_empty() {
        errs.required(format!("{path}.type"), "must specify a metric source type");
    }
    if !TYPES.contains(&kind) {
        errs.not_supported(format!("{path}.type"), kind, &TYPES);
    }
    // In the order in which upstream looks for them; only the first that is there is looked into.
    let sources = [
        ("Object", "object", metric.object.is_some()),
        ("External", "external", metric.external.is_some()),
        ("Pods", "pods", metric.pods.is_some()),
        ("Resource", "resource", metric.resource.is_some()),
        ("ContainerResource", "containerResource", metric.container_resource.is_some()),
    ];
    if let Some((_, first, _)) = sources.iter().find(|(.., present)| *present) {
        source(metric, first, &format!("{path}.{first}"), errs);
    }
    let expected = sources.iter().find(|(of, ..)| *of == kind);
    if let Some((_, field, false)) = expected {
        errs.required(format!("{path}.{field}"), "must populate information for the given metric source");
    }
    for (of, field, present) in sources {
        if present && of != kind && sources.iter().filter(|(.., present)| *present).count() != 1 {
            errs.forbidden(format!("{path}.{field}"), "must populate the given metric source only");
        }
    }
}

fn source(metric: &MetricSpec, field: &str, path: &str, errs: &mut FieldErrors) {
    match field {
        "object" => {
            let Some(source) = &metric.object else { return };
            reference(&source.described_object, &format!("{path}.describedObject"), errs);
            identifier(&source.metric, &format!("{path}.metric"), errs);
            target(&source.target, &format!("{path}.target"), errs);
            if source.target.value.is_none() && source.target.average_value.is_none() {
                let why = "must set either a target value or averageValue";
                errs.required(format!("{path}.target.averageValue"), why);
            }
        }
        "external" => {
            let Some(source) = &metric.external else { return };
            identifier(&source.metric, &format!("{path}.metric"), errs);
            target(&source.target, &format!("{path}.target"), errs);
            match (&source.target.value, &source.target.average_value) {
                (None, None) => {
                    let why = "must set either a target value for metric or a per-pod target";
                    errs.required(format!("{path}.target.averageValue"), why);
                }
                (Some(_), Some(_)) => {
                    let why = "may not set both a target value for metric and a per-pod target";
                    errs.forbidden(format!("{path}.target.value"), why);
                }
                _ => {}
            }
        }
        "pods" => {
            let Some(source) = &metric.pods else { return };
            identifier(&source.metric, &format!("{path}.metric"), errs);
            target(&source.target, &format!("{path}.target"), errs);
            if source.target.average_value.is_none() {
                let why = "must specify a positive target averageValue";
                errs.required(format!("{path}.target.averageValue"), why);
            }
        }
        "resource" => {
            let Some(source) = &metric.resource else { return };
            if source.name.is_empty() {
                errs.required(format!("{path}.name"), "must specify a resource name");
            }
            resource_target(&source.target, &format!("{path}.target"), errs);
        }
        _ => {
            let Some(source) = &metric.container_resource else { return };
            if source.name.is_empty() {
                errs.required(format!("{path}.name"), "must specify a resource name");
            }
            if source.container.is_empty() {
                errs.required(format!("{path}.container"), "must specify a container");
            } else {
                for why in label_problems(&source.container) {
                    errs.invalid(format!("{path}.container"), &source.container, why);
                }
            }
            resource_target(&source.target, &format!("{path}.target"), errs);
        }
    }
}

fn resource_target(of: &MetricTarget, path: &str, errs: &mut FieldErrors) {
    target(of, path, errs);
    match (of.average_utilization, &of.average_value) {
        (None, None) => errs.required(format!("{path}.averageUtilization"), NEITHER),
        (Some(_), Some(_)) => errs.forbidden(format!("{path}.averageValue"), BOTH),
        _ => {}
    }
}

fn identifier(id: &MetricIdentifier, path: &str, errs: &mut FieldErrors) {
    segment(&id.name, &format!("{path}.name"), "must specify a metric name", errs);
}

fn target(target: &MetricTarget, path: &str, errs: &mut FieldErrors) {
    let kind = target.type_.as_str();
    if kind.is_empty() {
        errs.required(format!("{path}.type"), "must specify a metric target type");
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind) {
        errs.invalid(format!("{path}.type"), kind, "must be either Utilization, Value, or AverageValue");
    }
    for (field, value) in [("value", &target.value), ("averageValue", &target.average_value)] {
        if let Some(value) = value
            && (parsed(value).is_negative() || parsed(value).is_zero())
        {
            errs.invalid(format!("{path}.{field}"), &value.0, "must be positive");
        }
    }
    if let Some(percent) = target.average_utilization.filter(|percent| *percent < 1) {
        errs.invalid(format!("{path}.averageUtilization"), percent, "must be greater than 0");
    }
}
