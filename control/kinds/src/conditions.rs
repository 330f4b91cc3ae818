//! What may be wrong with conditions in the shape that all newer kinds share.
//!
//! Wording: ValidateConditions of k8s.io/apimachinery/pkg/apis/meta/v1/validation.

use std::collections::BTreeSet;

use corten_api::field::{FieldErrors, Problem};
use corten_api::label;
use corten_api::meta::Condition;

const MOST_REASON: usize = 1024;
const MOST_MESSAGE: usize = 32 << 10;
const REASON: &str = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";

/// Notes what is wrong with conditions.
pub(crate) fn validate(conditions: &[Condition], path: &str, errs: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if !seen.insert(&condition.type_) {
            errs.duplicate(format!("{path}.type"), &condition.type_);
        }
        for why in label::key_problems(&condition.type_) {
            errs.invalid(format!("{path}.type"), &condition.type_, why);
        }
        let statuses = ["False", "True", "Unknown"];
        if !statuses.contains(&condition.status.as_str()) {
            errs.not_supported(format!("{path}.status"), &condition.status, &statuses);
        }
        if let Some(generation) = condition.observed_generation.filter(|generation| *generation < 0) {
            let why = "must be greater than or equal to zero";
            errs.invalid(format!("{path}.observedGeneration"), generation, why);
        }
        validate_reason(&condition.reason, &format!("{path}.reason"), errs);
        if condition.message.len() > MOST_MESSAGE {
            errs.push(format!("{path}.message"), Problem::TooLong(MOST_MESSAGE));
        }
    }
}

fn validate_reason(reason: &str, path: &str, errs: &mut FieldErrors) {
    let inner = |letter: char| letter.is_ascii_alphanumeric() || "_,:".contains(letter);
    let last = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    if reason.is_empty() {
        errs.required(path, "");
    } else if reason.len() > MOST_REASON {
        errs.push(path, Problem::TooLong(MOST_REASON));
    } else if !(reason.starts_with(|first: char| first.is_ascii_alphabetic())
        && reason.chars().all(inner)
        && reason.ends_with(last))
    {
        errs.invalid(path, reason, REASON);
    }
}
