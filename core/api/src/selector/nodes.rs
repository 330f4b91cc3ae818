//! Node selectors: terms of which one must hold.

use std::collections::BTreeMap;

use crate::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};

/// Whether a node with this name and these labels is selected.
#[must_use]
pub fn selects_node(selector: &NodeSelector, name: &str, labels: &BTreeMap<String, String>) -> bool {
    selector.node_selector_terms.iter().any(|term| matches(term, name, labels))
}

fn matches(term: &NodeSelectorTerm, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    // A term without requirements selects nothing.
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|requirement| holds(requirement, labels.get(&requirement.key).map(String::as_str)))
        && fields.iter().all(|requirement| requirement.key == "metadata.name" && holds(requirement, Some(name)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let is_in = || value.is_some_and(|value| values.iter().any(|own| own == value));
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let bound = || number(values.first().map(String::as_str));
    match requirement.operator.as_str() {
        "In" => is_in(),
        "NotIn" => !is_in(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value).zip(bound()).is_some_and(|(own, bound)| own > bound),
        "Lt" => number(value).zip(bound()).is_some_and(|(own, bound)| own < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn one_term_must_hold_with_all_its_requirements() {
        let labels = BTreeMap::from([("zone", "a"), ("cpus", "8")].map(|(key, value)| (key.into(), value.into())));
        let expression =
            |key: &str, operator: &str, values: &[&str]| json!({"key": key, "operator": operator, "values": values});
        let selects = |terms: &[Value]| {
            let selector = serde_json::from_value(json!({"nodeSelectorTerms": terms})).expect("a selector");
            selects_node(&selector, "n1", &labels)
        };
        let zone = |values: &[&str]| expression("zone", "In", values);
        for (terms, expected) in [
            (vec![], false),
            (vec![json!({})], false),
            (vec![json!({"matchExpressions": [zone(&["a", "b"])]})], true),
            (vec![json!({"matchExpressions": [zone(&["b"])]}), json!({"matchExpressions": [zone(&["a"])]})], true),
            (vec![json!({"matchExpressions": [zone(&["a"]), expression("cpus", "Gt", &["8"])]})], false),
            (vec![json!({"matchExpressions": [expression("cpus", "Lt", &["9"])]})], true),
            (vec![json!({"matchExpressions": [expression("gpu", "DoesNotExist", &[])]})], true),
            (vec![json!({"matchExpressions": [expression("gpu", "NotIn", &["x"])]})], true),
            (vec![json!({"matchFields": [expression("metadata.name", "In", &["n1"])]})], true),
            (vec![json!({"matchFields": [expression("metadata.name", "In", &["n2"])]})], false),
            (vec![json!({"matchFields": [expression("metadata.uid", "In", &["n1"])]})], false),
        ] {
            assert_eq!(selects(&terms), expected, "{terms:?}");
        }
    }
}
