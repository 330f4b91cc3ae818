//! What a pod asks for as a whole.
//!
//! Behaviour: k8s.io/component-helpers/resource of Kubernetes v1.36.

use std::collections::BTreeMap;

use corten_api::quantity::Quantity;
use serde_json::Value;

use super::list;

/// Resources by name.
pub(super) type Amounts = BTreeMap<String, Quantity>;

/// A quantity of an object; nothing if there is none.
pub(super) fn amount(value: &Value) -> Quantity {
    match value {
        Value::String(text) => text.parse().unwrap_or_default(),
        Value::Number(number) => number.to_string().parse().unwrap_or_default(),
        _ => Quantity::ZERO,
    }
}

/// A map of quantities.
pub(super) fn amounts(map: &Value) -> Amounts {
    map.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), amount(value))).collect()
}

/// What all containers of a pod ask for: the larger of what they need together, and of what each step of the
/// initialisation needs. `part` is `requests` or `limits`.
pub(super) fn of_pod(pod: &Value, part: &str) -> Amounts {
    let spec = &pod["spec"];
    let own = |container: &Value| amounts(&container["resources"][part]);
    let mut total = Amounts::new();
    for container in list(spec, "containers") {
        add(&mut total, &own(container));
    }
    let (mut sidecars, mut steps) = (Amounts::new(), Amounts::new());
    for container in list(spec, "initContainers") {
        let mut step = own(container);
        if container["restartPolicy"] == "Always" {
            add(&mut total, &step);
            add(&mut sidecars, &step);
            step.clone_from(&sidecars);
        } else {
            add(&mut step, &sidecars);
        }
        largest(&mut steps, &step);
    }
    largest(&mut total, &steps);
    // What the pod says as a whole counts more than what its containers say.
    for (name, value) in amounts(&spec["resources"][part]) {
        total.insert(name, value);
    }
    total
}

/// The same with what the way of running costs.
pub(super) fn with_overhead(pod: &Value, part: &str) -> Amounts {
    let mut total = of_pod(pod, part);
    for (name, value) in amounts(&pod["spec"]["overhead"]) {
        if part == "requests" || total.contains_key(&name) {
            *total.entry(name).or_default() += value;
        }
    }
    total
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, value) in more {
        *to.entry(name.clone()).or_default() += *value;
    }
}

fn largest(of: &mut Amounts, and: &Amounts) {
    for (name, value) in and {
        let own = of.entry(name.clone()).or_default();
        *own = (*own).max(*value);
    }
}
