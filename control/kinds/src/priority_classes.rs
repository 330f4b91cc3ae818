//! PriorityClasses: names for the priorities of pods.

use corten_api::api::scheduling::v1::PriorityClass;
use corten_api::field::FieldErrors;
use corten_api::names::{Names, Scope};
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::table::{NAME, age, boolean, column, number};
use crate::{ColumnHead, WriteContext, text};

/// The highest priority that is for users to give.
const MOST: i32 = 1_000_000_000;
/// The classes of the cluster itself: what keeps it together, and what keeps a node together.
pub const SYSTEM_CLASSES: [(&str, i32, &str); 2] = [
    ("system-cluster-critical", 2_000_000_000, "Pods that keep the cluster working; they may run on another node."),
    ("system-node-critical", 2_000_001_000, "Pods that keep a node working; they cannot run elsewhere."),
];

pub(crate) struct PriorityClasses;

impl Kind for PriorityClasses {
    type Object = PriorityClass;

    const NAMES: Names = Names {
        group: "scheduling.k8s.io",
        version: "v1",
        kind: "PriorityClass",
        plural: "priorityclasses",
        singular: "priorityclass",
        short: &["pc"],
        categories: &[],
    };
    const SCOPE: Scope = Scope::Cluster;
    const COLUMNS: &'static [ColumnHead] =
        &[NAME, number("Value"), boolean("Global-Default"), column("Age"), column("PreemptionPolicy")];

    fn cells(class: &PriorityClass, now: Timestamp) -> Vec<Value> {
        vec![
            json!(class.metadata.name),
            class.value.unwrap_or(0).into(),
            class.global_default.unwrap_or(false).into(),
            age(class.metadata.creation_timestamp.as_ref(), now).into(),
            class.preemption_policy.clone().unwrap_or_default().into(),
        ]
    }

    fn default(class: &mut PriorityClass) {
        class.preemption_policy.get_or_insert_with(|| "PreemptLowerPriority".to_owned());
    }

    fn prepare(new: &mut PriorityClass, old: Option<&PriorityClass>, _cx: &WriteContext<'_>) -> Result<(), Status> {
        new.value.get_or_insert(0);
        if let Some(old) = old {
            new.metadata.generation = old.metadata.generation;
        } else {
            new.metadata.generation = Some(1);
        }
        Ok(())
    }

    fn validate(class: &PriorityClass, old: Option<&PriorityClass>, errs: &mut FieldErrors) {
        let (name, value) = (class.metadata.name.as_deref().unwrap_or_default(), class.value.unwrap_or(0));
        if name.starts_with("system-") {
            if let Err(why) = known(name, value, class.global_default == Some(true)) {
                let reserved = "priority class names with 'system-' prefix are reserved for system use only. error: ";
                errs.forbidden("metadata.name", format!("{reserved}{why}"));
            }
        } else if value > MOST {
            errs.forbidden("value", format!("maximum allowed value of a user defined priority is {MOST}"));
        }
        let policies = ["Never", "PreemptLowerPriority"];
        text::one_of(class.preemption_policy.as_deref(), &policies, "preemptionPolicy", errs);
        let Some(old) = old else { return };
        if class.value.unwrap_or(0) != old.value.unwrap_or(0) {
            errs.forbidden("value", "may not be changed in an update.");
        }
        text::unchanged(&class.preemption_policy, &old.preemption_policy, "preemptionPolicy", errs);
    }
}

/// Whether it is one of the cluster's own classes, as it must be.
fn known(name: &str, value: i32, default: bool) -> Result<(), String> {
    let Some((_, own, _)) = SYSTEM_CLASSES.iter().find(|(own, ..)| *own == name) else {
        return Err(format!("{name} is not a known system priority class"));
    };
    if *own != value {
        return Err(format!("value of {name} PriorityClass must be {own}"));
    }
    if default {
        return Err(format!("globalDefault of {name} PriorityClass must be false"));
    }
    Ok(())
}
