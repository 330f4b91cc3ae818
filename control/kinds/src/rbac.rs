//! What roles and bindings have in common: the rules of rbac.authorization.k8s.io.
//!
//! Wording: pkg/apis/rbac/validation of Kubernetes.

use corten_api::api::rbac::v1::{PolicyRule, RoleRef, Subject};
use corten_api::field::{FieldErrors, Problem};
use serde_json::json;

use crate::meta::segment_problems;

pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";

/// What is wrong with the rules of a role.
pub(crate) fn validate_rules(rules: Option<&[PolicyRule]>, namespaced: bool, errs: &mut FieldErrors) {
    for (index, rule) in rules.unwrap_or_default().iter().enumerate() {
        let path = |field: &str| format!("rules[{index}].{field}");
        if rule.verbs.is_empty() {
            errs.required(path("verbs"), "verbs must contain at least one value");
        }
        let [groups, resources, names, urls] =
            [&rule.api_groups, &rule.resources, &rule.resource_names, &rule.non_resource_urls]
                .map(|list| list.as_deref().unwrap_or_default());
        if !urls.is_empty() {
            if namespaced {
                errs.invalid(path("nonResourceURLs"), urls, "namespaced rules cannot apply to non-resource URLs");
            }
            if !groups.is_empty() || !resources.is_empty() || !names.is_empty() {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                errs.invalid(path("nonResourceURLs"), urls, why);
            }
            continue;
        }
        if groups.is_empty() {
            errs.required(path("apiGroups"), "resource rules must supply at least one api group");
        }
        if resources.is_empty() {
            errs.required(path("resources"), "resource rules must supply at least one resource");
        }
    }
}

/// Fills in the groups that references are in.
pub(crate) fn default_references(role: &mut RoleRef, subjects: Option<&mut Vec<Subject>>) {
    if role.api_group.as_deref().is_none_or(str::is_empty) {
        role.api_group = Some(GROUP.to_owned());
    }
    for subject in subjects.into_iter().flatten() {
        if subject.api_group.as_deref().is_none_or(str::is_empty) {
            subject.api_group = ["User", "Group"].contains(&subject.kind.as_str()).then(|| GROUP.to_owned());
        }
    }
}

/// A binding, of either kind.
pub(crate) struct References<'a> {
    pub(crate) role: &'a RoleRef,
    pub(crate) subjects: Option<&'a [Subject]>,
}

impl References<'_> {
    /// What is wrong with what a binding refers to. `kinds` are the kinds of roles that it may give.
    pub(crate) fn validate(&self, old: Option<&RoleRef>, kinds: &[&str], namespaced: bool, errs: &mut FieldErrors) {
        let role = self.role;
        let group = role.api_group.as_deref().unwrap_or_default();
        if group != GROUP {
            errs.not_supported("roleRef.apiGroup", group, &[GROUP]);
        }
        if !kinds.contains(&role.kind.as_str()) {
            errs.not_supported("roleRef.kind", &role.kind, kinds);
        }
        if role.name.is_empty() {
            errs.required("roleRef.name", "");
        } else {
            for why in segment_problems(&role.name) {
                errs.invalid("roleRef.name", &role.name, why);
            }
        }
        for (index, subject) in self.subjects.unwrap_or_default().iter().enumerate() {
            validate_subject(subject, index, namespaced, errs);
        }
        if old.is_some_and(|old| old != role) {
            let shown = json!(role).to_string();
            errs.push("roleRef", Problem::Invalid(shown, "cannot change roleRef".to_owned()));
        }
    }

    /// Names of the subjects of a kind, as tables show them.
    fn of_kind(&self, kind: &str) -> String {
        let subjects = self.subjects.unwrap_or_default().iter().filter(|subject| subject.kind == kind);
        let names = subjects.map(|subject| match (kind, subject.namespace.as_deref()) {
            ("ServiceAccount", Some(namespace)) if !namespace.is_empty() => format!("{namespace}/{}", subject.name),
            ("ServiceAccount", _) => format!("/{}", subject.name),
            _ => subject.name.clone(),
        });
        names.collect::<Vec<_>>().join(", ")
    }

    /// The cells that say who is given which role.
    pub(crate) fn cells(&self) -> [serde_json::Value; 4] {
        let role = format!("{}/{}", self.role.kind, self.role.name);
        [role, self.of_kind("User"), self.of_kind("Group"), self.of_kind("ServiceAccount")].map(Into::into)
    }
}

fn validate_subject(subject: &Subject, index: usize, namespaced: bool, errs: &mut FieldErrors) {
    let path = |field: &str| format!("subjects[{index}].{field}");
    if subject.name.is_empty() {
        errs.required(path("name"), "");
    }
    let group = subject.api_group.as_deref().unwrap_or_default();
    match subject.kind.as_str() {
        "ServiceAccount" => {
            if !subject.name.is_empty() {
                for why in corten_api::label::subdomain_problems(&subject.name) {
                    errs.invalid(path("name"), &subject.name, why);
                }
            }
            if !group.is_empty() {
                errs.not_supported(path("apiGroup"), group, &[""]);
            }
            if !namespaced && subject.namespace.as_deref().is_none_or(str::is_empty) {
                errs.required(path("namespace"), "");
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errs.not_supported(path("apiGroup"), group, &[GROUP]);
            }
        }
        kind => errs.not_supported(path("kind"), kind, &["ServiceAccount", "User", "Group"]),
    }
}
