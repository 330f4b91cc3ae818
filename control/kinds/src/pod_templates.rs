//! PodTemplates: a template by itself, for whoever wants to make pods of it.

use corten_api::api::core::v1::PodTemplate;
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::pods::template;
use crate::table::{NAME, column, containers, labels};
use crate::{ColumnHead, WriteContext};

pub(crate) struct PodTemplates;

impl Kind for PodTemplates {
    type Object = PodTemplate;

    const NAMES: Names = Names {
        group: "",
        version: "v1",
        kind: "PodTemplate",
        plural: "podtemplates",
        singular: "podtemplate",
        short: &[],
        categories: &[],
    };
    const COLUMNS: &'static [ColumnHead] = &[NAME, column("Containers"), column("Images"), column("Pod Labels")];
    const SHOW_DELETED: bool = true;

    fn cells(object: &PodTemplate, _now: Timestamp) -> Vec<Value> {
        let (names, images) = containers(object.template.as_ref().and_then(|template| template.spec.as_ref()));
        let shown = object.template.as_ref().map(template::labels);
        vec![json!(object.metadata.name), names.into(), images.into(), labels(shown.as_ref()).into()]
    }

    fn default(object: &mut PodTemplate) {
        template::default(object.template.get_or_insert_default());
    }

    // The generation counts changes of the template, as there is no spec.
    fn prepare(new: &mut PodTemplate, old: Option<&PodTemplate>, _cx: &WriteContext<'_>) -> Result<(), Status> {
        new.metadata.generation =
            Some(old.map_or(1, |old| old.metadata.generation.unwrap_or(1) + i64::from(old.template != new.template)));
        Ok(())
    }

    fn validate(new: &PodTemplate, _old: Option<&PodTemplate>, errs: &mut FieldErrors) {
        template::validate(&new.template.clone().unwrap_or_default(), "template", errs);
    }

    fn warnings(new: &PodTemplate, old: Option<&PodTemplate>) -> Vec<String> {
        let Some(template) = &new.template else { return Vec::new() };
        template::warnings(template, old.and_then(|old| old.template.as_ref()), "template")
    }
}
