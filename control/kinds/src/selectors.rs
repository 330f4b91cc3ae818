//! Label selectors and node selectors in fields.
//!
//! Wording: k8s.io/apimachinery/pkg/apis/meta/v1/validation and pkg/apis/core/validation.

use corten_api::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use corten_api::field::{FieldErrors, Problem};
use corten_api::label;
use corten_api::meta::{LabelSelector, LabelSelectorRequirement};
use serde::Serialize;

use crate::meta;

/// A value that is not acceptable, shown as JSON.
pub(crate) fn invalid_json(errs: &mut FieldErrors, path: impl Into<String>, value: &impl Serialize, why: &str) {
    let shown = serde_json::to_string(value).unwrap_or_default();
    errs.push(path, Problem::Invalid(shown, why.to_owned()));
}

/// A selector of labels, which may be missing.
pub(crate) fn optional(selector: Option<&LabelSelector>, path: &str, errs: &mut FieldErrors) {
    if let Some(selector) = selector {
        labels(selector, path, errs);
    }
}

/// A selector of labels.
pub(crate) fn labels(selector: &LabelSelector, path: &str, errs: &mut FieldErrors) {
    meta::labels(selector.match_labels.iter().flatten(), &format!("{path}.matchLabels"), errs);
    for (index, requirement) in selector.match_expressions.iter().flatten().enumerate() {
        requirement_of_labels(requirement, &format!("{path}.matchExpressions[{index}]"), errs);
    }
}

fn requirement_of_labels(requirement: &LabelSelectorRequirement, path: &str, errs: &mut FieldErrors) {
    let values = requirement.values.as_deref().unwrap_or_default();
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errs.required(format!("{path}.values"), "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errs.forbidden(format!("{path}.values"), why);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errs.invalid(format!("{path}.operator"), other, "not a valid selector operator"),
    }
    for why in label::key_problems(&requirement.key) {
        errs.invalid(format!("{path}.key"), &requirement.key, why);
    }
    for (index, value) in values.iter().enumerate() {
        for why in label::value_problems(value) {
            errs.invalid(format!("{path}.values[{index}]"), value, why);
        }
    }
}

/// A selector of nodes.
pub(crate) fn nodes(selector: &NodeSelector, path: &str, errs: &mut FieldErrors) {
    if selector.node_selector_terms.is_empty() {
        return errs.required(format!("{path}.nodeSelectorTerms"), "must have at least one node selector term");
    }
    for (index, term) in selector.node_selector_terms.iter().enumerate() {
        node_term(term, &format!("{path}.nodeSelectorTerms[{index}]"), errs);
    }
}

/// One term of a selector of nodes.
pub(crate) fn node_term(term: &NodeSelectorTerm, path: &str, errs: &mut FieldErrors) {
    for (index, requirement) in term.match_expressions.iter().flatten().enumerate() {
        node_requirement(requirement, &format!("{path}.matchExpressions[{index}]"), errs);
    }
    for (index, requirement) in term.match_fields.iter().flatten().enumerate() {
        let path = format!("{path}.matchFields[{index}]");
        let values = requirement.values.as_deref().unwrap_or_default();
        match requirement.operator.as_str() {
            "In" | "NotIn" if values.len() != 1 => {
                let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errs.required(format!("{path}.values"), why);
            }
            "In" | "NotIn" => {}
            other => errs.invalid(format!("{path}.operator"), other, "not a valid selector operator"),
        }
        if requirement.key != "metadata.name" {
            errs.invalid(format!("{path}.key"), &requirement.key, "not a valid field selector key");
            continue;
        }
        for (index, value) in values.iter().enumerate() {
            for why in label::subdomain_problems(value) {
                errs.invalid(format!("{path}.values[{index}]"), value, why);
            }
        }
    }
}

fn node_requirement(requirement: &NodeSelectorRequirement, path: &str, errs: &mut FieldErrors) {
    let values = requirement.values.as_deref().unwrap_or_default();
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errs.required(format!("{path}.values"), "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errs.forbidden(format!("{path}.values"), why);
        }
        "Gt" | "Lt" if values.len() != 1 => {
            errs.required(format!("{path}.values"), "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errs.invalid(format!("{path}.operator"), other, "not a valid selector operator"),
    }
    for why in label::key_problems(&requirement.key) {
        errs.invalid(format!("{path}.key"), &requirement.key, why);
    }
}
