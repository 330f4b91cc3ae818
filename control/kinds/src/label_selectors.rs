//! What may be wrong with label selectors.
//!
//! Wording: k8s.io/apimachinery/pkg/apis/meta/v1/validation.

use corten_api::field::FieldErrors;
use corten_api::label;
use corten_api::meta::LabelSelector;

use crate::meta;

/// Notes what is wrong with a selector.
pub(crate) fn validate(selector: &LabelSelector, path: &str, errs: &mut FieldErrors) {
    meta::labels(selector.match_labels.iter().flatten(), &format!("{path}.matchLabels"), errs);
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let path = format!("{path}.matchExpressions[{index}]");
        let values = expression.values.as_deref().unwrap_or_default();
        match expression.operator.as_str() {
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
        for why in label::key_problems(&expression.key) {
            errs.invalid(format!("{path}.key"), &expression.key, why);
        }
        for (index, value) in values.iter().enumerate() {
            for why in label::value_problems(value) {
                errs.invalid(format!("{path}.values[{index}]"), value, why);
            }
        }
    }
}

/// Whether a selector demands nothing, and so selects everything.
pub(crate) fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(std::collections::BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}
