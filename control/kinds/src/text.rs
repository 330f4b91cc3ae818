//! Checks of single texts: names that refer to something, keys, values.
//!
//! Wording: k8s.io/apimachinery/pkg/util/validation and pkg/apis/core/validation of Kubernetes v1.36.

use corten_api::field::{FieldErrors, Problem};
use corten_api::label;
use serde::Serialize;

use crate::meta::label_problems;

/// Most letters of the name of a CSI or device driver.
const DRIVER: usize = 63;
/// What an update may not change is refused with this.
pub(crate) const IMMUTABLE: &str = "field is immutable";

/// An RFC 1123 subdomain, such as the name of a class.
pub(crate) fn subdomain(text: &str, path: &str, errs: &mut FieldErrors) {
    for why in label::subdomain_problems(text) {
        errs.invalid(path, text, why);
    }
}

/// An RFC 1123 subdomain that must be there.
pub(crate) fn required_subdomain(text: &str, path: &str, errs: &mut FieldErrors) {
    if text.is_empty() { errs.required(path, "") } else { subdomain(text, path, errs) }
}

/// An RFC 1123 label.
pub(crate) fn dns_label(text: &str, path: &str, errs: &mut FieldErrors) {
    for why in label_problems(text) {
        errs.invalid(path, text, why);
    }
}

/// A label key: a qualified name.
pub(crate) fn key(text: &str, path: &str, errs: &mut FieldErrors) {
    for why in label::key_problems(text) {
        errs.invalid(path, text, why);
    }
}

/// A label value.
pub(crate) fn value(text: &str, path: &str, errs: &mut FieldErrors) {
    for why in label::value_problems(text) {
        errs.invalid(path, text, why);
    }
}

/// A text that must be there.
pub(crate) fn required(text: &str, path: &str, errs: &mut FieldErrors) {
    if text.is_empty() {
        errs.required(path, "");
    }
}

/// The name of a CSI or device driver.
pub(crate) fn driver(name: &str, path: &str, errs: &mut FieldErrors) {
    if name.is_empty() {
        errs.required(path, "");
    }
    if name.len() > DRIVER {
        errs.push(path, Problem::TooLong(DRIVER));
    }
    for why in label::subdomain_problems(&name.to_lowercase()) {
        errs.invalid(path, name, why);
    }
}

/// One of a few words. What is left out is not judged here.
pub(crate) fn one_of(word: Option<&str>, words: &[&str], path: &str, errs: &mut FieldErrors) {
    if let Some(word) = word.filter(|word| !words.contains(word)) {
        errs.not_supported(path, word, words);
    }
}

/// A path inside something: it never climbs.
pub(crate) fn no_climbing(text: &str, path: &str, errs: &mut FieldErrors) {
    if text.split('/').any(|part| part == "..") {
        errs.invalid(path, text, "must not contain '..'");
    }
}

/// A composite value is not acceptable; it is shown as JSON.
pub(crate) fn invalid_value(value: &impl Serialize, why: &str, path: &str, errs: &mut FieldErrors) {
    errs.push(path, Problem::Invalid(serde_json::to_string(value).unwrap_or_default(), why.to_owned()));
}

/// What was set stays as it was set.
pub(crate) fn unchanged<T: Serialize + PartialEq>(new: &T, old: &T, path: &str, errs: &mut FieldErrors) {
    if new != old {
        invalid_value(new, IMMUTABLE, path, errs);
    }
}
