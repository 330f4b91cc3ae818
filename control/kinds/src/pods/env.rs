//! Environment variables and where their values come from.
//!
//! Wording: pkg/apis/core/validation of Kubernetes v1.36.

use corten_api::api::core::v1::{
    EnvFromSource, EnvVar, EnvVarSource, FileKeySelector, ObjectFieldSelector, ResourceFieldSelector,
};
use corten_api::field::FieldErrors;
use corten_api::{label, quantity::Quantity};

use crate::config_maps::check_key;

/// Fields of a pod that variables can hold.
const VARIABLE_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of a pod that files can hold.
const FILE_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// What is wrong with the name of a variable.
fn name_problem(name: &str) -> Option<&'static str> {
    let printable = |c: char| (' '..='~').contains(&c) && c != '=';
    (!name.chars().all(printable) || name.is_empty())
        .then_some("a valid environment variable name must consist only of printable ASCII characters other than '='")
}

pub(super) fn variables(variables: &[EnvVar], volumes: &dyn Fn(&str) -> bool, path: &str, errs: &mut FieldErrors) {
    for (index, variable) in variables.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if variable.name.is_empty() {
            errs.required(format!("{path}.name"), "");
        } else if let Some(why) = name_problem(&variable.name) {
            errs.invalid(format!("{path}.name"), &variable.name, why);
        }
        if let Some(from) = &variable.value_from {
            let filled = variable.value.as_ref().is_some_and(|value| !value.is_empty());
            value_from(from, filled, volumes, &format!("{path}.valueFrom"), errs);
        }
    }
}

fn value_from(from: &EnvVarSource, filled: bool, volumes: &dyn Fn(&str) -> bool, path: &str, errs: &mut FieldErrors) {
    let mut count = 0;
    if let Some(field) = &from.field_ref {
        count += 1;
        field_ref(field, &VARIABLE_FIELDS, &format!("{path}.fieldRef"), errs);
    }
    if let Some(resource) = &from.resource_field_ref {
        count += 1;
        resource_ref(resource, false, &format!("{path}.resourceFieldRef"), errs);
    }
    if let Some(reference) = &from.config_map_key_ref {
        count += 1;
        key_ref(&reference.name, &reference.key, &format!("{path}.configMapKeyRef"), errs);
    }
    if let Some(reference) = &from.secret_key_ref {
        count += 1;
        key_ref(&reference.name, &reference.key, &format!("{path}.secretKeyRef"), errs);
    }
    if let Some(reference) = &from.file_key_ref {
        count += 1;
        file_ref(reference, volumes, &format!("{path}.fileKeyRef"), errs);
    }
    if count == 0 {
        let why =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errs.invalid(path, "", why);
    }
    if filled && count > 0 {
        errs.invalid(path, "", "may not be specified when `value` is not empty");
    } else if count > 1 {
        errs.invalid(path, "", "may not have more than one field specified at a time");
    }
}

/// A field of the pod. Labels and annotations are asked for by key: `metadata.labels['a']`.
pub(super) fn field_ref(field: &ObjectFieldSelector, supported: &[&str], path: &str, errs: &mut FieldErrors) {
    let text = field.field_path.as_str();
    let path = |part: &str| format!("{path}.{part}");
    if field.api_version.as_deref().is_none_or(str::is_empty) {
        return errs.required(path("apiVersion"), "");
    }
    if text.is_empty() {
        return errs.required(path("fieldPath"), "");
    }
    if let Some((whole, key)) = text.strip_suffix("']").and_then(|text| text.split_once("['")) {
        let problems = match whole {
            "metadata.labels" => label::key_problems(key),
            "metadata.annotations" => label::key_problems(&key.to_lowercase()),
            _ => vec![format!("{text:?} does not support subscript")],
        };
        return problems.into_iter().for_each(|why| errs.invalid(path("fieldPath"), key, why));
    }
    let known = VARIABLE_FIELDS.contains(&text) || FILE_FIELDS.contains(&text);
    if !known {
        let why = format!("error converting fieldPath: field label not supported: {text}");
        errs.invalid(path("fieldPath"), text, why);
    } else if !supported.contains(&text) {
        errs.not_supported(path("fieldPath"), text, supported);
    }
}

/// A field of the pod that a file holds.
pub(super) fn file_field_ref(field: &ObjectFieldSelector, path: &str, errs: &mut FieldErrors) {
    field_ref(field, &FILE_FIELDS, path, errs);
}

/// A resource of a container.
pub(super) fn resource_ref(field: &ResourceFieldSelector, in_volume: bool, path: &str, errs: &mut FieldErrors) {
    if in_volume && field.container_name.as_deref().is_none_or(str::is_empty) {
        return errs.required(format!("{path}.containerName"), "");
    }
    let resource = field.resource.as_str();
    if resource.is_empty() {
        return errs.required(format!("{path}.resource"), "");
    }
    let huge = resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if !huge && !RESOURCES.contains(&resource) {
        return errs.not_supported(format!("{path}.resource"), resource, &RESOURCES);
    }
    let Some(divisor) = field.divisor.as_ref().filter(|text| Quantity::of(text).is_ok_and(|q| !q.is_zero())) else {
        return;
    };
    let (allowed, what): (&[&str], &str) = if resource.ends_with(".cpu") {
        (&["1m", "1"], "divisor's values 1m and 1 are supported with the cpu resource")
    } else {
        let kind = if resource.ends_with("memory") {
            "memory"
        } else if huge {
            "hugepages"
        } else {
            "local ephemeral storage"
        };
        (
            &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"],
            match kind {
                "memory" => {
                    "divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource"
                }
                "hugepages" => {
                    "divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the hugepages resource"
                }
                _ => {
                    "divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the local ephemeral storage resource"
                }
            },
        )
    };
    if !allowed.contains(&divisor.0.as_str()) {
        errs.invalid(format!("{path}.divisor"), &divisor.0, format!("only {what}"));
    }
}

fn key_ref(name: &str, key: &str, path: &str, errs: &mut FieldErrors) {
    if name.is_empty() {
        errs.required(format!("{path}.name"), "");
    }
    if key.is_empty() {
        errs.required(format!("{path}.key"), "");
    } else {
        check_key(key, &format!("{path}.key"), errs);
    }
}

fn file_ref(reference: &FileKeySelector, volumes: &dyn Fn(&str) -> bool, path: &str, errs: &mut FieldErrors) {
    if reference.key.is_empty() {
        errs.required(format!("{path}.key"), "");
    } else if let Some(why) = name_problem(&reference.key) {
        errs.invalid(format!("{path}.key"), &reference.key, why);
    }
    if reference.volume_name.is_empty() {
        errs.required(format!("{path}.volumeName"), "");
    } else if !volumes(&reference.volume_name) {
        errs.not_found(format!("{path}.volumeName"), &reference.volume_name);
    }
    if reference.path.is_empty() {
        errs.required(format!("{path}.path"), "");
    } else {
        super::paths::descending(&reference.path, &format!("{path}.path"), errs);
    }
}

/// Whole maps that become variables.
pub(super) fn sources(sources: &[EnvFromSource], path: &str, errs: &mut FieldErrors) {
    for (index, source) in sources.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if let Some(prefix) = source.prefix.as_deref().filter(|prefix| !prefix.is_empty())
            && let Some(why) = name_problem(prefix)
        {
            errs.invalid(format!("{path}.prefix"), prefix, why);
        }
        let names = [
            ("configMapRef", source.config_map_ref.as_ref().map(|from| from.name.as_str())),
            ("secretRef", source.secret_ref.as_ref().map(|from| from.name.as_str())),
        ];
        for (field, name) in names {
            let Some(name) = name else { continue };
            let path = format!("{path}.{field}.name");
            if name.is_empty() {
                errs.required(path, "");
            } else {
                label::subdomain_problems(name).into_iter().for_each(|why| errs.invalid(&path, name, why));
            }
        }
        match names.iter().filter(|(_, name)| name.is_some()).count() {
            0 => errs.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => errs.invalid(path, "", "may not have more than one field specified at a time"),
        }
    }
}
