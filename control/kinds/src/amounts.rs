//! Amounts of resources: which names there are, and what amounts are.
//!
//! Wording and names: pkg/apis/core/helper and pkg/apis/core/validation of Kubernetes v1.36.

use std::collections::BTreeMap;

use corten_api::field::FieldErrors;
use corten_api::k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use corten_api::quantity::Quantity;

use crate::text;

/// Resources by name.
pub(crate) type Amounts = BTreeMap<String, Text>;

const OF_CONTAINERS: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Resources that quotas know by short names.
const OF_QUOTAS: [&str; 19] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];
/// Those of which there are only whole ones.
const WHOLE: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
const HUGE_PAGES: &str = "hugepages-";

/// What the text says, nothing if it says nothing.
pub(crate) fn read(amount: &Text) -> Quantity {
    Quantity::of(amount).unwrap_or(Quantity::ZERO)
}

/// An amount as messages show it.
pub(crate) fn shown(amount: &Text) -> String {
    Quantity::of(amount).map_or_else(|_| amount.0.clone(), |amount| amount.to_string())
}

/// Whether it counts against a quota without a prefix that says what it is.
pub(crate) fn is_standard_quota(name: &str) -> bool {
    OF_QUOTAS.contains(&name) || name.starts_with("requests.hugepages-") || name.starts_with(HUGE_PAGES)
}

/// Whether it is a vendor's: `example.com/gpu`.
pub(crate) fn is_extended(name: &str) -> bool {
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    !native && !name.starts_with("requests.") && corten_api::label::key_problems(&format!("requests.{name}")).is_empty()
}

/// An amount: a quantity, not negative, whole where there are only whole ones.
pub(crate) fn amount(name: &str, amount: &Text, path: &str, errs: &mut FieldErrors) {
    match Quantity::of(amount) {
        Err(error) => errs.invalid(path, &amount.0, error.to_string()),
        Ok(value) => {
            if value.is_negative() {
                errs.invalid(path, value.to_string(), "must be greater than or equal to 0");
            }
            if (WHOLE.contains(&name) || is_extended(name)) && !value.is_whole() {
                errs.invalid(path, value.to_string(), "must be an integer");
            }
        }
    }
}

/// An amount of which there must be some.
pub(crate) fn positive(amount: &Text, path: &str, errs: &mut FieldErrors) {
    if let Ok(value) = Quantity::of(amount)
        && (value.is_negative() || value.is_zero())
    {
        errs.invalid(path, value.to_string(), "must be greater than zero");
    }
}

/// A resource of containers.
pub(crate) fn container_resource(name: &str, path: &str, errs: &mut FieldErrors) {
    text::key(name, path, errs);
    if !name.contains('/') && !OF_CONTAINERS.contains(&name) && !name.starts_with(HUGE_PAGES) {
        errs.invalid(path, name, "must be a standard resource for containers");
    }
}

/// A resource that a quota may limit.
pub(crate) fn quota_resource(name: &str, path: &str, errs: &mut FieldErrors) {
    text::key(name, path, errs);
    if !name.contains('/') && !is_standard_quota(name) {
        errs.invalid(path, name, "must be a standard resource for quota");
    }
}
