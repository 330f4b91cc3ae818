//! VolumeAttributesClasses: attributes of volumes that can change while they are in use.

use corten_api::api::storage::v1::VolumeAttributesClass;
use corten_api::field::FieldErrors;
use corten_api::names::{Names, Scope};
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::ColumnHead;
use crate::kind::Kind;
use crate::storage_classes::parameters;
use crate::table::{NAME, age, column};

pub(crate) struct VolumeAttributesClasses;

impl Kind for VolumeAttributesClasses {
    type Object = VolumeAttributesClass;

    const NAMES: Names = Names {
        group: "storage.k8s.io",
        version: "v1",
        kind: "VolumeAttributesClass",
        plural: "volumeattributesclasses",
        singular: "volumeattributesclass",
        short: &["vac"],
        categories: &[],
    };
    const SCOPE: Scope = Scope::Cluster;
    const SHOW_DELETED: bool = true;
    const COLUMNS: &'static [ColumnHead] = &[NAME, column("DriverName"), column("Age")];

    fn cells(class: &VolumeAttributesClass, now: Timestamp) -> Vec<Value> {
        vec![
            json!(class.metadata.name),
            class.driver_name.clone().into(),
            age(class.metadata.creation_timestamp.as_ref(), now).into(),
        ]
    }

    fn validate(class: &VolumeAttributesClass, old: Option<&VolumeAttributesClass>, errs: &mut FieldErrors) {
        match class.driver_name.as_str() {
            "" => errs.required("driverName", ""),
            name => {
                for why in corten_api::label::key_problems(&name.to_lowercase()) {
                    errs.invalid("driverName", name, why);
                }
            }
        }
        if class.parameters.as_ref().is_none_or(std::collections::BTreeMap::is_empty) {
            errs.required("parameters", "must contain at least one key/value pair");
        }
        parameters(class.parameters.as_ref(), errs);
        let Some(old) = old else { return };
        if class.driver_name != old.driver_name {
            errs.forbidden("driverName", "updates to driverName are forbidden.");
        }
        if class.parameters != old.parameters {
            errs.forbidden("parameters", "updates to parameters are forbidden.");
        }
    }
}
