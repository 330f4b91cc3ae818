//! Rules of `metadata` that all kinds share.
//!
//! Wording: k8s.io/apimachinery/pkg/api/validation and pkg/util/validation.

use corten_api::field::FieldErrors;
use corten_api::label;
use corten_api::meta::ObjectMeta;
use corten_api::names::Scope;

/// What a name must be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NameRule {
    /// RFC 1123 subdomain, at most 253 bytes.
    Subdomain,
    /// RFC 1123 label, at most 63 bytes.
    Label,
    /// RFC 1035 label: begins with a letter.
    Rfc1035,
    /// What this function finds nothing wrong with.
    By(fn(&str) -> Vec<String>),
}

/// Most bytes of all annotations together.
const ANNOTATION_BYTES: usize = 256 << 10;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const RFC_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

/// What is wrong with an RFC 1123 label.
pub(crate) fn label_problems(name: &str) -> Vec<String> {
    let mut problems = too_long(name, 63);
    if !is_label(name) {
        problems.push(LABEL.to_owned());
    }
    problems
}

/// What is wrong with an RFC 1035 label.
pub(crate) fn rfc_1035_problems(name: &str) -> Vec<String> {
    let mut problems = too_long(name, 63);
    if !is_label(name) || !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        problems.push(RFC_1035.to_owned());
    }
    problems
}

/// What is wrong with a name that only has to fit between two slashes of a path.
pub(crate) fn segment_problems(name: &str) -> Vec<String> {
    if name == "." || name == ".." {
        return vec![format!("may not be '{name}'")];
    }
    ["/", "%"].iter().filter(|bad| name.contains(**bad)).map(|bad| format!("may not contain '{bad}'")).collect()
}

fn too_long(name: &str, most: usize) -> Vec<String> {
    if name.len() > most { vec![format!("must be no more than {most} bytes")] } else { Vec::new() }
}

fn is_label(name: &str) -> bool {
    let inner = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    !name.is_empty() && name.chars().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

fn name_problems(name: &str, rule: NameRule) -> Vec<String> {
    match rule {
        NameRule::Subdomain => label::subdomain_problems(name),
        NameRule::Label => label_problems(name),
        NameRule::Rfc1035 => rfc_1035_problems(name),
        NameRule::By(problems) => problems(name),
    }
}

/// What is wrong with the metadata of a new or changed object.
pub(crate) fn validate(meta: &ObjectMeta, scope: Scope, rule: NameRule, errs: &mut FieldErrors) {
    match meta.name.as_deref() {
        None | Some("") => errs.required("metadata.name", "name or generateName is required"),
        Some(name) => {
            for why in name_problems(name, rule) {
                errs.invalid("metadata.name", name, why);
            }
        }
    }
    if let (Scope::Namespaced, Some(namespace)) = (scope, meta.namespace.as_deref()) {
        for why in label_problems(namespace) {
            errs.invalid("metadata.namespace", namespace, why);
        }
    }
    labels(meta.labels.iter().flatten(), "metadata.labels", errs);
    annotations(meta.annotations.iter().flatten(), "metadata.annotations", errs);
    for finalizer in meta.finalizers.iter().flatten() {
        for why in label::key_problems(finalizer) {
            errs.invalid("metadata.finalizers", finalizer, why);
        }
    }
    let mut controllers = 0;
    for (index, owner) in meta.owner_references.iter().flatten().enumerate() {
        let path = |field: &str| format!("metadata.ownerReferences[{index}].{field}");
        for (field, value) in
            [("apiVersion", &owner.api_version), ("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)]
        {
            if value.is_empty() {
                errs.invalid(path(field), value, "must not be empty");
            }
        }
        controllers += u32::from(owner.controller == Some(true));
    }
    if controllers > 1 {
        let why = "Only one reference can have Controller set to true";
        errs.invalid("metadata.ownerReferences", controllers, why);
    }
}

/// What is wrong with a map of labels.
pub(crate) fn labels<'a>(labels: impl Iterator<Item = (&'a String, &'a String)>, path: &str, errs: &mut FieldErrors) {
    for (key, value) in labels {
        for why in label::key_problems(key) {
            errs.invalid(path, key, why);
        }
        for why in label::value_problems(value) {
            errs.invalid(path, value, why);
        }
    }
}

/// What is wrong with a map of annotations.
pub(crate) fn annotations<'a>(
    annotations: impl Iterator<Item = (&'a String, &'a String)>,
    path: &str,
    errs: &mut FieldErrors,
) {
    let mut bytes = 0;
    for (key, value) in annotations {
        bytes += key.len() + value.len();
        for why in label::key_problems(&key.to_lowercase()) {
            errs.invalid(path, key, why);
        }
    }
    if bytes > ANNOTATION_BYTES {
        errs.push(path, corten_api::field::Problem::TooLong(ANNOTATION_BYTES));
    }
}

/// Takes back what a write of the status changed in the metadata, for kinds whose status is all that it may change.
pub(crate) fn keep_for_status(new: &mut ObjectMeta, old: &ObjectMeta) {
    let managed = new.managed_fields.take();
    *new = ObjectMeta { managed_fields: managed, ..old.clone() };
}

/// What may not change.
pub(crate) fn validate_update(new: &ObjectMeta, old: &ObjectMeta, errs: &mut FieldErrors) {
    let immutable = "field is immutable";
    if new.name != old.name {
        errs.invalid("metadata.name", new.name.as_deref().unwrap_or_default(), immutable);
    }
    if new.namespace != old.namespace {
        errs.invalid("metadata.namespace", new.namespace.as_deref().unwrap_or_default(), immutable);
    }
    if old.deletion_timestamp.is_some() {
        let before = old.finalizers.as_deref().unwrap_or_default();
        let added: Vec<&String> = new.finalizers.iter().flatten().filter(|name| !before.contains(name)).collect();
        if !added.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
            );
            errs.forbidden("metadata.finalizers", why);
        }
    }
}
