//! Namespaces: a scope for names. Deleting one deletes what is in it.

use corten_api::api::core::v1::{Namespace, NamespaceStatus};
use corten_api::field::FieldErrors;
use corten_api::names::{Names, Scope};
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::meta::NameRule;
use crate::table::{NAME, age, column};
use crate::{ColumnHead, Subresource, WriteContext};

/// Holds a namespace until its content is gone.
const FINALIZER: &str = "kubernetes";
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub(crate) struct Namespaces;

impl Kind for Namespaces {
    type Object = Namespace;

    const NAMES: Names = Names {
        group: "",
        version: "v1",
        kind: "Namespace",
        plural: "namespaces",
        singular: "namespace",
        short: &["ns"],
        categories: &[],
    };
    const SCOPE: Scope = Scope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status, Subresource::Finalize];
    const COLUMNS: &'static [ColumnHead] = &[NAME, column("Status"), column("Age")];
    const DELETE_COLLECTION: bool = false;
    const NAME_RULE: NameRule = NameRule::Label;
    const FIELDS: &'static [&'static str] = &["status.phase"];

    fn cells(namespace: &Namespace, now: Timestamp) -> Vec<Value> {
        let phase = namespace.status.as_ref().and_then(|status| status.phase.clone());
        vec![
            json!(namespace.metadata.name),
            json!(phase),
            age(namespace.metadata.creation_timestamp.as_ref(), now).into(),
        ]
    }

    fn default(namespace: &mut Namespace) {
        let name = namespace.metadata.name.clone().unwrap_or_default();
        namespace.metadata.labels.get_or_insert_default().insert(NAME_LABEL.to_owned(), name);
    }

    fn prepare(new: &mut Namespace, old: Option<&Namespace>, _cx: &WriteContext<'_>) -> Result<(), Status> {
        match old {
            None => {
                let finalizers = new.spec.get_or_insert_default().finalizers.get_or_insert_default();
                if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
                    finalizers.push(FINALIZER.to_owned());
                }
                new.status = Some(NamespaceStatus { phase: Some("Active".to_owned()), ..NamespaceStatus::default() });
            }
            // Finalizers change by the finalize subresource alone.
            Some(old) => new.spec = old.spec.clone(),
        }
        Ok(())
    }

    fn validate(namespace: &Namespace, _old: Option<&Namespace>, errs: &mut FieldErrors) {
        let finalizers = namespace.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten());
        for (index, finalizer) in finalizers.enumerate() {
            for why in corten_api::label::key_problems(finalizer) {
                errs.invalid(format!("spec.finalizers[{index}]"), finalizer, why);
            }
        }
    }

    fn validate_status(new: &Namespace, _old: &Namespace, errs: &mut FieldErrors) {
        let phase = new.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        let ending = new.metadata.deletion_timestamp.is_some();
        if !ending && phase != "Active" {
            errs.invalid("status.Phase", phase, "may only be 'Active' if `deletionTimestamp` is empty");
        }
        if ending && phase != "Terminating" {
            errs.invalid("status.Phase", phase, "may only be 'Terminating' if `deletionTimestamp` is not empty");
        }
    }

    fn mark_deleted(object: &mut Value) {
        object["status"]["phase"] = "Terminating".into();
    }

    fn held(object: &Value) -> bool {
        object["spec"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty())
    }
}
