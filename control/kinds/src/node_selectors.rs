//! Node selectors, as volumes and device slices hold them.
//!
//! Wording: ValidateNodeSelector of pkg/apis/core/validation of Kubernetes v1.36.

use corten_api::api::core::v1::{NodeSelector, NodeSelectorRequirement, TopologySelectorTerm};
use corten_api::field::FieldErrors;

use crate::text;

/// A selector that must select by something.
pub(crate) fn validate(selector: &NodeSelector, path: &str, errs: &mut FieldErrors) {
    let path = format!("{path}.nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        return errs.required(path, "must have at least one node selector term");
    }
    for (index, term) in selector.node_selector_terms.iter().enumerate() {
        for (at, requirement) in term.match_expressions.iter().flatten().enumerate() {
            expression(requirement, &format!("{path}[{index}].matchExpressions[{at}]"), errs);
        }
        for (at, requirement) in term.match_fields.iter().flatten().enumerate() {
            field(requirement, &format!("{path}[{index}].matchFields[{at}]"), errs);
        }
    }
}

fn expression(requirement: &NodeSelectorRequirement, path: &str, errs: &mut FieldErrors) {
    let values = requirement.values.as_deref().unwrap_or_default();
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errs.required(format!("{path}.values"), "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errs.forbidden(
                format!("{path}.values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            );
        }
        "Gt" | "Lt" if values.len() != 1 => {
            errs.required(format!("{path}.values"), "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errs.invalid(format!("{path}.operator"), other, "not a valid selector operator"),
    }
    text::key(&requirement.key, &format!("{path}.key"), errs);
    for (index, value) in values.iter().enumerate() {
        text::value(value, &format!("{path}.values[{index}]"), errs);
    }
}

fn field(requirement: &NodeSelectorRequirement, path: &str, errs: &mut FieldErrors) {
    let values = requirement.values.as_deref().unwrap_or_default();
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.len() == 1 => {}
        "In" | "NotIn" => errs.required(
            format!("{path}.values"),
            "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
        ),
        other => errs.invalid(format!("{path}.operator"), other, "not a valid selector operator"),
    }
    if requirement.key != "metadata.name" {
        errs.invalid(format!("{path}.key"), &requirement.key, "not a valid field selector key");
    }
    for (index, value) in values.iter().enumerate() {
        text::subdomain(value, &format!("{path}.values[{index}]"), errs);
    }
}

/// Topologies in which a class provisions.
pub(crate) fn topologies(terms: &[TopologySelectorTerm], path: &str, errs: &mut FieldErrors) {
    let mut seen = Vec::new();
    for (index, term) in terms.iter().enumerate() {
        let path = format!("{path}[{index}].matchLabelExpressions");
        let expressions = term.match_label_expressions.as_deref().unwrap_or_default();
        let mut keys = Vec::new();
        for (at, expression) in expressions.iter().enumerate() {
            let path = format!("{path}[{at}]");
            if expression.values.is_empty() {
                errs.required(format!("{path}.values"), "");
            }
            for (at, value) in expression.values.iter().enumerate() {
                if expression.values[..at].contains(value) {
                    errs.duplicate(format!("{path}.values[{at}]"), value);
                }
            }
            text::key(&expression.key, &format!("{path}.key"), errs);
            if keys.contains(&&expression.key) {
                errs.duplicate(format!("{path}.key"), &expression.key);
            }
            keys.push(&expression.key);
        }
        if seen.contains(&expressions) {
            errs.push(path, corten_api::field::Problem::Duplicate("\"\"".to_owned()));
        }
        seen.push(expressions);
    }
}
