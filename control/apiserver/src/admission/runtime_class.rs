//! RuntimeClass: what a pod's way of running costs, and where it can run.

use corten_api::names::Names;
use corten_api::status::Status;
use serde_json::Value;

use super::pod_resources::amounts;
use super::{Attempt, Plugin, append, is_pod, list};

pub(super) struct RuntimeClass;

impl Plugin for RuntimeClass {
    fn changes(&self, names: &Names) -> bool {
        is_pod(names)
    }

    fn admit(&self, write: &Attempt<'_>, pod: &mut Value) -> Result<(), Status> {
        if write.old.is_some() {
            return Ok(());
        }
        let name = pod["spec"]["runtimeClassName"].as_str().filter(|name| !name.is_empty()).map(str::to_owned);
        let class = match &name {
            None => Value::Null,
            Some(name) => {
                let missing = || write.forbidden(pod, &format!("pod rejected: RuntimeClass \"{name}\" not found"));
                write.find("runtimeclasses", None, name)?.ok_or_else(missing)?
            }
        };
        overhead(&class["overhead"]["podFixed"], &mut pod["spec"])
            .and_then(|()| scheduling(&class["scheduling"], &mut pod["spec"]))
            .map_err(|why| write.forbidden(pod, &why))
    }
}

fn overhead(cost: &Value, spec: &mut Value) -> Result<(), String> {
    let given = &spec["overhead"];
    let has_own = given.as_object().is_some_and(|given| !given.is_empty());
    if !cost.is_object() {
        let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
        return if has_own { Err(why.to_owned()) } else { Ok(()) };
    }
    if has_own && amounts(given) != amounts(cost) {
        return Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".to_owned());
    }
    spec["overhead"] = cost.clone();
    Ok(())
}

fn scheduling(scheduling: &Value, spec: &mut Value) -> Result<(), String> {
    for (key, value) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        if let Some(own) = spec["nodeSelector"].get(key).filter(|own| *own != value) {
            let (value, own) = (value.as_str().unwrap_or_default(), own.as_str().unwrap_or_default());
            return Err(format!(
                "conflict: runtimeClass.Scheduling.NodeSelector[{key}] = {value}; pod.Spec.NodeSelector[{key}] = {own}"
            ));
        }
        spec["nodeSelector"][key] = value.clone();
    }
    for toleration in list(scheduling, "tolerations") {
        if !list(spec, "tolerations").contains(toleration) {
            append(spec, "tolerations", toleration.clone());
        }
    }
    Ok(())
}
