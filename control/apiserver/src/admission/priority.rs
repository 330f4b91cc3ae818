//! Priority: the name of a pod's priority class becomes a number; at most one class is everybody's.

use corten_api::names::Names;
use corten_api::status::Status;
use serde_json::Value;

use super::{Attempt, Plugin, is_pod};

const CLASSES: &str = "priorityclasses";
const PREEMPT: &str = "PreemptLowerPriority";

pub(super) struct Priority;

impl Plugin for Priority {
    fn changes(&self, names: &Names) -> bool {
        is_pod(names)
    }

    fn admit(&self, write: &Attempt<'_>, pod: &mut Value) -> Result<(), Status> {
        match write.old {
            None => set(write, pod),
            // A client that writes a pod back may leave out what it was given.
            Some(old) => {
                for field in ["priority", "preemptionPolicy"] {
                    if pod["spec"][field].is_null() && !old["spec"][field].is_null() {
                        pod["spec"][field] = old["spec"][field].clone();
                    }
                }
                Ok(())
            }
        }
    }

    fn validate(&self, write: &Attempt<'_>, object: &Value) -> Result<(), Status> {
        if !write.is("scheduling.k8s.io", "PriorityClass") || object["globalDefault"] != true {
            return Ok(());
        }
        let name = &object["metadata"]["name"];
        let other = everybodys(write).filter(|other| other["metadata"]["name"] != *name);
        other.map_or(Ok(()), |other| {
            let other = other["metadata"]["name"].as_str().unwrap_or_default();
            let why = format!("PriorityClass {other} is already marked as default. Only one default can exist");
            Err(write.forbidden(object, &why))
        })
    }
}

/// The class of pods that name none; of several the one with the lowest value, as upstream.
fn everybodys(write: &Attempt<'_>) -> Option<Value> {
    let classes = write.all(CLASSES, None);
    let defaults = classes.into_iter().filter(|class| class["globalDefault"] == true);
    defaults.min_by_key(|class| class["value"].as_i64())
}

fn set(write: &Attempt<'_>, pod: &mut Value) -> Result<(), Status> {
    let named = pod["spec"]["priorityClassName"].as_str().filter(|name| !name.is_empty()).map(str::to_owned);
    let class = match &named {
        None => everybodys(write),
        Some(name) => {
            let class = write.find(CLASSES, None, name)?;
            let missing = || write.forbidden(pod, &format!("no PriorityClass with name {name} was found"));
            Some(class.ok_or_else(missing)?)
        }
    };
    let number = class.as_ref().and_then(|class| class["value"].as_i64()).unwrap_or(0);
    let policy = class.as_ref().and_then(|class| class["preemptionPolicy"].as_str()).unwrap_or(PREEMPT).to_owned();
    let given = &pod["spec"]["priority"];
    if !given.is_null() && *given != number {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {number} from the given PriorityClass name"
        );
        return Err(write.forbidden(pod, &why));
    }
    if let Some(given) = pod["spec"]["preemptionPolicy"].as_str().filter(|given| *given != policy) {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        );
        return Err(write.forbidden(pod, &why));
    }
    if let Some(class) = class.filter(|_| named.is_none()) {
        pod["spec"]["priorityClassName"] = class["metadata"]["name"].clone();
    }
    pod["spec"]["priority"] = number.into();
    pod["spec"]["preemptionPolicy"] = policy.into();
    Ok(())
}
