//! RuntimeClasses: ways to run containers, by name.

use corten_api::api::node::v1::RuntimeClass;
use corten_api::field::{FieldErrors, Problem};
use corten_api::names::{Names, Scope};
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::table::{NAME, age, column};
use crate::{ColumnHead, amounts, text};

pub(crate) struct RuntimeClasses;

impl Kind for RuntimeClasses {
    type Object = RuntimeClass;

    const NAMES: Names = Names {
        group: "node.k8s.io",
        version: "v1",
        kind: "RuntimeClass",
        plural: "runtimeclasses",
        singular: "runtimeclass",
        short: &[],
        categories: &[],
    };
    const UNCONDITIONAL_UPDATE: bool = false;
    const SCOPE: Scope = Scope::Cluster;
    const COLUMNS: &'static [ColumnHead] = &[NAME, column("Handler"), column("Age")];

    fn cells(class: &RuntimeClass, now: Timestamp) -> Vec<Value> {
        vec![
            json!(class.metadata.name),
            class.handler.clone().into(),
            age(class.metadata.creation_timestamp.as_ref(), now).into(),
        ]
    }

    fn validate(class: &RuntimeClass, old: Option<&RuntimeClass>, errs: &mut FieldErrors) {
        text::dns_label(&class.handler, "handler", errs);
        for (name, amount) in class.overhead.iter().flat_map(|overhead| overhead.pod_fixed.iter().flatten()) {
            let path = format!("overhead.podFixed[{name}]");
            amounts::container_resource(name, &path, errs);
            amounts::amount(name, amount, &path, errs);
        }
        if let Some(scheduling) = &class.scheduling {
            crate::meta::labels(scheduling.node_selector.iter().flatten(), "scheduling.nodeSelector", errs);
            let tolerations = scheduling.tolerations.as_deref().unwrap_or_default();
            for (index, toleration) in tolerations.iter().enumerate() {
                let path = format!("scheduling.tolerations[{index}]");
                crate::pods::toleration(toleration, &path, errs);
                if tolerations[..index].contains(toleration) {
                    errs.push(path, Problem::Duplicate(serde_json::to_string(toleration).unwrap_or_default()));
                }
            }
        }
        if let Some(old) = old {
            text::unchanged(&class.handler, &old.handler, "handler", errs);
        }
    }
}
