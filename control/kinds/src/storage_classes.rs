//! StorageClasses: kinds of storage that can be provisioned.

use std::collections::BTreeMap;

use corten_api::api::core::v1::TopologySelectorTerm;
use corten_api::api::storage::v1::StorageClass;
use corten_api::field::{FieldErrors, Problem};
use corten_api::names::{Names, Scope};
use corten_base::Timestamp;
use serde_json::Value;

use crate::kind::Kind;
use crate::table::{NAME, age, column};
use crate::{ColumnHead, text};

/// Most parameters, and most bytes of them.
const MOST: (usize, usize) = (512, 256 << 10);

pub(crate) struct StorageClasses;

impl Kind for StorageClasses {
    type Object = StorageClass;

    const NAMES: Names = Names {
        group: "storage.k8s.io",
        version: "v1",
        kind: "StorageClass",
        plural: "storageclasses",
        singular: "storageclass",
        short: &["sc"],
        categories: &[],
    };
    const SCOPE: Scope = Scope::Cluster;
    const SHOW_DELETED: bool = true;
    const COLUMNS: &'static [ColumnHead] = &[
        NAME,
        column("Provisioner"),
        column("ReclaimPolicy"),
        column("VolumeBindingMode"),
        column("AllowVolumeExpansion"),
        column("Age"),
    ];

    fn cells(class: &StorageClass, now: Timestamp) -> Vec<Value> {
        let mut name = class.metadata.name.clone().unwrap_or_default();
        if is_default(class) {
            name += " (default)";
        }
        vec![
            name.into(),
            class.provisioner.clone().into(),
            class.reclaim_policy.clone().unwrap_or_else(|| "Delete".to_owned()).into(),
            class.volume_binding_mode.clone().unwrap_or_else(|| "Immediate".to_owned()).into(),
            class.allow_volume_expansion.unwrap_or(false).into(),
            age(class.metadata.creation_timestamp.as_ref(), now).into(),
        ]
    }

    fn default(class: &mut StorageClass) {
        class.reclaim_policy.get_or_insert_with(|| "Delete".to_owned());
        class.volume_binding_mode.get_or_insert_with(|| "Immediate".to_owned());
    }

    fn validate(class: &StorageClass, old: Option<&StorageClass>, errs: &mut FieldErrors) {
        match class.provisioner.as_str() {
            "" => errs.required("provisioner", ""),
            provisioner => {
                for why in corten_api::label::key_problems(&provisioner.to_lowercase()) {
                    errs.invalid("provisioner", provisioner, why);
                }
            }
        }
        parameters(class.parameters.as_ref(), errs);
        text::one_of(class.reclaim_policy.as_deref(), &["Delete", "Retain"], "reclaimPolicy", errs);
        let modes = ["Immediate", "WaitForFirstConsumer"];
        text::one_of(class.volume_binding_mode.as_deref(), &modes, "volumeBindingMode", errs);
        topologies(class.allowed_topologies.as_deref().unwrap_or_default(), "allowedTopologies", errs);
        let Some(old) = old else { return };
        let none = BTreeMap::new();
        if class.parameters.as_ref().unwrap_or(&none) != old.parameters.as_ref().unwrap_or(&none) {
            errs.forbidden("parameters", "updates to parameters are forbidden.");
        }
        if class.provisioner != old.provisioner {
            errs.forbidden("provisioner", "updates to provisioner are forbidden.");
        }
        if class.reclaim_policy != old.reclaim_policy {
            errs.forbidden("reclaimPolicy", "updates to reclaimPolicy are forbidden.");
        }
        text::unchanged(&class.volume_binding_mode, &old.volume_binding_mode, "volumeBindingMode", errs);
    }
}

fn is_default(class: &StorageClass) -> bool {
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
        .iter()
        .any(|key| class.metadata.annotations.as_ref().is_some_and(|all| all.get(*key).is_some_and(|v| v == "true")))
}

/// Parameters of whatever provisions: opaque, but not without end.
pub(crate) fn parameters(parameters: Option<&BTreeMap<String, String>>, errs: &mut FieldErrors) {
    let Some(parameters) = parameters else { return };
    if parameters.len() > MOST.0 {
        return errs.push("parameters", Problem::TooLong(MOST.0));
    }
    if parameters.contains_key("") {
        errs.invalid("parameters", "", "field can not be empty.");
    }
    if parameters.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > MOST.1 {
        errs.push("parameters", Problem::TooLong(MOST.1));
    }
}

/// Topologies in which a class provisions.
fn topologies(terms: &[TopologySelectorTerm], path: &str, errs: &mut FieldErrors) {
    let mut seen = Vec::new();
    for (index, term) in terms.iter().enumerate() {
        let path = format!("{path}[{index}].matchLabelExpressions");
        let expressions = term.match_label_expressions.as_deref().unwrap_or_default();
        let mut keys = Vec::new();
        for (at, expression) in expressions.iter().enumerate() {
            let path = format!("{path}[{at}]");
            if expression.values.is_empty() {
                errs.required(format!("{path}.values"), "");
            }
            for (at, value) in expression.values.iter().enumerate() {
                if expression.values[..at].contains(value) {
                    errs.duplicate(format!("{path}.values[{at}]"), value);
                }
            }
            text::key(&expression.key, &format!("{path}.key"), errs);
            if keys.contains(&&expression.key) {
                errs.duplicate(format!("{path}.key"), &expression.key);
            }
            keys.push(&expression.key);
        }
        if seen.contains(&expressions) {
            errs.push(path, Problem::Duplicate("\"\"".to_owned()));
        }
        seen.push(expressions);
    }
}
