//! DeviceClasses: names for kinds of devices, and how they are set up.

use corten_api::api::resource::v1::DeviceClass;
use corten_api::field::FieldErrors;
use corten_api::names::{Names, Scope};
use corten_base::Timestamp;
use serde_json::{Value, json};

use super::{MOST, at_most, requests};
use crate::kind::Kind;
use crate::table::{NAME, age, column};
use crate::{ColumnHead, amounts, text};

pub(crate) struct DeviceClasses;

impl Kind for DeviceClasses {
    type Object = DeviceClass;

    const NAMES: Names = Names {
        group: "resource.k8s.io",
        version: "v1",
        kind: "DeviceClass",
        plural: "deviceclasses",
        singular: "deviceclass",
        short: &[],
        categories: &[],
    };
    const SCOPE: Scope = Scope::Cluster;
    const GENERATION: bool = true;
    const SHOW_DELETED: bool = true;
    const COLUMNS: &'static [ColumnHead] = &[NAME, column("Age")];

    fn cells(class: &DeviceClass, now: Timestamp) -> Vec<Value> {
        vec![json!(class.metadata.name), age(class.metadata.creation_timestamp.as_ref(), now).into()]
    }

    fn validate(class: &DeviceClass, _old: Option<&DeviceClass>, errs: &mut FieldErrors) {
        requests::selectors(class.spec.selectors.as_ref(), "spec.selectors", errs);
        let config = class.spec.config.as_deref().unwrap_or_default();
        for (index, config) in config.iter().enumerate() {
            requests::configuration(config.opaque.as_ref(), &format!("spec.config[{index}]"), errs);
        }
        at_most(config.len(), MOST, "spec.config", errs);
        if let Some(name) = &class.spec.extended_resource_name {
            let path = "spec.extendedResourceName";
            text::key(name, path, errs);
            if !amounts::is_extended(name) {
                errs.invalid(path, name, "must be a valid extended resource name");
            }
        }
    }
}
