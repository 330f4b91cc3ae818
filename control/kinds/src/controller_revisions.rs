//! ControllerRevisions: what a template once was, so that a controller can go back to it.

use corten_api::api::apps::v1::ControllerRevision;
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::table::{NAME, age, column};
use crate::{ColumnHead, counts};

pub(crate) struct ControllerRevisions;

impl Kind for ControllerRevisions {
    type Object = ControllerRevision;

    const NAMES: Names = Names {
        group: "apps",
        version: "v1",
        kind: "ControllerRevision",
        plural: "controllerrevisions",
        singular: "controllerrevision",
        short: &[],
        categories: &[],
    };
    const COLUMNS: &'static [ColumnHead] = &[NAME, column("Controller"), column("Revision"), column("Age")];

    fn cells(revision: &ControllerRevision, now: Timestamp) -> Vec<Value> {
        let owners = revision.metadata.owner_references.iter().flatten();
        let controller = owners.into_iter().find(|owner| owner.controller == Some(true)).map(|owner| {
            let kind = match owner.api_version.split_once('/') {
                Some((group, _)) => format!("{}.{group}", owner.kind),
                None => owner.kind.clone(),
            };
            format!("{}/{}", kind.to_lowercase(), owner.name)
        });
        vec![
            json!(revision.metadata.name),
            controller.unwrap_or_else(|| "<none>".to_owned()).into(),
            json!(revision.revision),
            age(revision.metadata.creation_timestamp.as_ref(), now).into(),
        ]
    }

    fn validate(new: &ControllerRevision, old: Option<&ControllerRevision>, errs: &mut FieldErrors) {
        if new.data.as_ref().is_none_or(|data| data.0.is_null()) {
            errs.required("data", "data is mandatory");
        }
        counts::not_negative(Some(new.revision), "revision", errs);
        if let Some(old) = old {
            counts::immutable(&new.data, &old.data, "data", errs);
        }
    }
}
