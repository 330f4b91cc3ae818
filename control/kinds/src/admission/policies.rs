//! What validating and mutating policies have in common.

use std::collections::HashSet;

use corten_api::api::admissionregistration::v1::{MatchResources, ParamKind, Variable};
use corten_api::field::FieldErrors;
use corten_api::names::Names;

use super::rules;
use crate::meta::rfc_1035_problems;

pub(super) const fn names(kind: &'static str, plural: &'static str, singular: &'static str) -> Names {
    let (group, categories) = ("admissionregistration.k8s.io", &["api-extensions"]);
    Names { group, version: "v1", kind, plural, singular, short: &[], categories }
}

/// `apiVersion/kind` of the parameters, as tables show it.
pub(super) fn param_cell(kind: Option<&ParamKind>) -> String {
    kind.map_or_else(
        || "<unset>".to_owned(),
        |kind| {
            format!("{}/{}", kind.api_version.as_deref().unwrap_or_default(), kind.kind.as_deref().unwrap_or_default())
        },
    )
}

pub(super) fn param_kind(kind: Option<&ParamKind>, errs: &mut FieldErrors) {
    const PATH: &str = "spec.paramKind";
    let Some(kind) = kind else { return };
    match kind.api_version.as_deref().unwrap_or_default() {
        "" => errs.required(format!("{PATH}.apiVersion"), ""),
        version => {
            let (group, version_part) = version.rsplit_once('/').unwrap_or(("", version));
            if group.contains('/') {
                let why = format!("unexpected GroupVersion string: {version}");
                errs.invalid(format!("{PATH}.apiVersion"), version, why);
            } else if !group.is_empty() {
                let problems = corten_api::label::subdomain_problems(group);
                problems.into_iter().for_each(|why| errs.invalid(format!("{PATH}.apiVersion"), version, why));
            }
            let problems = rfc_1035_problems(version_part);
            problems.into_iter().for_each(|why| errs.invalid(format!("{PATH}.apiVersion"), version, why));
        }
    }
    match kind.kind.as_deref().unwrap_or_default() {
        "" => errs.required(format!("{PATH}.kind"), ""),
        name => {
            let problems = rfc_1035_problems(&name.to_lowercase());
            let why = |why| format!("may have mixed case, but should otherwise match: {why}");
            problems.into_iter().for_each(|text| errs.invalid(format!("{PATH}.kind"), name, why(text)));
        }
    }
}

/// What a policy is asked about.
pub(super) fn constraints(constraints: Option<&MatchResources>, errs: &mut FieldErrors) {
    const PATH: &str = "spec.matchConstraints";
    let Some(constraints) = constraints else { return errs.required(PATH, "") };
    rules::resources(constraints, PATH, errs);
    if constraints.resource_rules.as_ref().is_none_or(Vec::is_empty) {
        errs.required(format!("{PATH}.resourceRules"), "");
    }
}

pub(super) fn variables(variables: &[Variable], errs: &mut FieldErrors) {
    let mut names = HashSet::new();
    for (index, variable) in variables.iter().enumerate() {
        let path = format!("spec.variables[{index}]");
        let name = variable.name.as_str();
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.trim().is_empty() {
            errs.required(format!("{path}.name"), "name is not specified");
        } else if !name.chars().all(letters) || name.starts_with(|first: char| first.is_ascii_digit()) {
            errs.invalid(format!("{path}.name"), name, "name is not a valid CEL identifier");
        } else if !names.insert(name) {
            errs.duplicate(format!("{path}.name"), name);
        }
        let path = format!("{path}.expression");
        rules::expression(Some(&variable.expression), &path, "expression is not specified", errs);
    }
}
