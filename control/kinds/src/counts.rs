//! Counts, percentages and other numbers of specs and statuses.
//!
//! Wording: pkg/apis/apps/validation and pkg/apis/core/validation of Kubernetes v1.36.

use corten_api::IntOrString;
use corten_api::field::{FieldErrors, Problem};
use serde::Serialize;

use crate::selectors;

const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

/// A number must not be negative.
pub(crate) fn not_negative(value: Option<impl Into<i64>>, path: impl Into<String>, errs: &mut FieldErrors) {
    if let Some(value) = value.map(Into::into).filter(|value| *value < 0) {
        errs.invalid(path, value, "must be greater than or equal to 0");
    }
}

/// None of several numbers under one path may be negative.
pub(crate) fn none_negative(path: &str, numbers: &[(&str, Option<i64>)], errs: &mut FieldErrors) {
    for (field, value) in numbers {
        not_negative(*value, format!("{path}.{field}"), errs);
    }
}

/// None of the numbers may exceed another.
pub(crate) fn none_above(most: i64, why: &str, path: &str, numbers: &[(&str, Option<i32>)], errs: &mut FieldErrors) {
    for (field, value) in numbers {
        if let Some(value) = value.filter(|value| i64::from(*value) > most) {
            errs.invalid(format!("{path}.{field}"), value, why);
        }
    }
}

/// A count of collisions only grows.
pub(crate) fn not_decremented(new: Option<i32>, old: Option<i32>, path: &str, errs: &mut FieldErrors) {
    if old.is_some_and(|old| new.is_none_or(|new| new < old)) {
        errs.invalid(path, new.unwrap_or(0), "cannot be decremented");
    }
}

/// Notes what is wrong with a number or percentage.
pub(crate) fn amount(value: &IntOrString, path: &str, errs: &mut FieldErrors) {
    match value {
        IntOrString::Int(number) => not_negative(Some(*number), path, errs),
        IntOrString::String(text) if percent(value).is_none() => errs.invalid(path, text, PERCENT),
        IntOrString::String(_) => {}
    }
}

/// A percentage must not be more than everything.
pub(crate) fn at_most_all(value: &IntOrString, path: &str, errs: &mut FieldErrors) {
    if percent(value).is_some_and(|percent| percent > 100) {
        errs.invalid(path, raw(value), "must not be greater than 100%");
    }
}

/// The number of a percentage.
pub(crate) fn percent(value: &IntOrString) -> Option<i64> {
    let IntOrString::String(text) = value else { return None };
    let digits = text.strip_suffix('%')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(i64::MAX))
}

/// The number, or the number of the percentage; 0 for what is neither.
pub(crate) fn number(value: &IntOrString) -> i64 {
    match value {
        IntOrString::Int(number) => i64::from(*number),
        IntOrString::String(text) => percent(value).or_else(|| text.parse().ok()).unwrap_or(0),
    }
}

/// A number or percentage as people write it.
pub(crate) fn text(value: &IntOrString) -> String {
    match value {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => text.clone(),
    }
}

/// A number or percentage as messages show it.
fn raw(value: &IntOrString) -> Raw {
    Raw(shown(value))
}

struct Raw(String);

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn shown(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// A value that is no scalar is not acceptable: it is shown as JSON.
pub(crate) fn invalid(path: impl Into<String>, value: &impl Serialize, why: &str, errs: &mut FieldErrors) {
    selectors::invalid_json(errs, path, value, why);
}

/// A value that was set once stays.
pub(crate) fn immutable<T: PartialEq + Serialize>(new: &T, old: &T, path: &str, errs: &mut FieldErrors) {
    if new != old {
        invalid(path, new, "field is immutable", errs);
    }
}

/// A value is none of the supported ones; it is shown as JSON.
pub(crate) fn not_supported(path: &str, value: &impl Serialize, supported: &[&str], errs: &mut FieldErrors) {
    let supported = supported.iter().map(|&value| value.to_owned()).collect();
    errs.push(path, Problem::NotSupported(shown(value), supported));
}
