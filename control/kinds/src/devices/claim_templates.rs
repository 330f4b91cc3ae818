//! ResourceClaimTemplates: claims that pods get one each of.

use corten_api::api::resource::v1::ResourceClaimTemplate;
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_base::Timestamp;
use serde_json::{Value, json};

use super::requests;
use crate::kind::Kind;
use crate::table::{NAME, age, column};
use crate::{ColumnHead, meta, text};

pub(crate) struct ResourceClaimTemplates;

impl Kind for ResourceClaimTemplates {
    type Object = ResourceClaimTemplate;

    const NAMES: Names = Names {
        group: "resource.k8s.io",
        version: "v1",
        kind: "ResourceClaimTemplate",
        plural: "resourceclaimtemplates",
        singular: "resourceclaimtemplate",
        short: &[],
        categories: &[],
    };
    const SHOW_DELETED: bool = true;
    const COLUMNS: &'static [ColumnHead] = &[NAME, column("Age")];

    fn cells(template: &ResourceClaimTemplate, now: Timestamp) -> Vec<Value> {
        vec![json!(template.metadata.name), age(template.metadata.creation_timestamp.as_ref(), now).into()]
    }

    fn default(template: &mut ResourceClaimTemplate) {
        template.spec.spec.devices.iter_mut().for_each(requests::default);
    }

    fn validate(template: &ResourceClaimTemplate, old: Option<&ResourceClaimTemplate>, errs: &mut FieldErrors) {
        if let Some(old) = old {
            text::unchanged(&template.spec, &old.spec, "spec", errs);
        }
        if let Some(metadata) = &template.spec.metadata {
            meta::labels(metadata.labels.iter().flatten(), "spec.metadata.labels", errs);
            meta::annotations(metadata.annotations.iter().flatten(), "spec.metadata.annotations", errs);
        }
        if let Some(devices) = &template.spec.spec.devices {
            requests::validate(devices, "spec.spec.devices", errs);
        }
    }
}
