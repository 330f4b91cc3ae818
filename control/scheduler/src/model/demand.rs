//! What a pod needs of a node.
//!
//! Spec: <https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers>

use corten_api::api::core::v1::{Container, ContainerStatus, Pod, PodSpec};

use super::Amounts;

/// What scores count for a container that asks for nothing, so that such pods do not pile up.
const CPU_IF_UNASKED: i64 = 100;
const MEMORY_IF_UNASKED: i64 = 200 << 20;

/// What a pod asks for, and the CPU and memory that scores count for it.
pub(super) fn demand(pod: &Pod) -> (Amounts, i64, i64) {
    let Some(spec) = &pod.spec else { return Default::default() };
    let asked = total(pod, spec, false);
    let counted = total(pod, spec, true);
    (asked, counted.cpu, counted.memory)
}

fn total(pod: &Pod, spec: &PodSpec, fill: bool) -> Amounts {
    let statuses = pod.status.as_ref();
    let running = statuses.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let starting = statuses.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
    let refused = is_refused(pod);
    let of = |container, statuses| {
        let mut amounts = of_container(container, statuses, refused);
        if fill {
            let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
            let asks = |name| requests.is_some_and(|requests| requests.contains_key(name));
            if !asks("cpu") {
                amounts.cpu = CPU_IF_UNASKED;
            }
            if !asks("memory") {
                amounts.memory = MEMORY_IF_UNASKED;
            }
        }
        amounts
    };
    let mut total = Amounts::default();
    spec.containers.iter().for_each(|container| total.add(&of(container, running)));
    let (mut sidecars, mut peak) = (Amounts::default(), Amounts::default());
    for container in spec.init_containers.iter().flatten() {
        let own = of(container, starting);
        let mut at_once = sidecars.clone();
        at_once.add(&own);
        peak.raise(&at_once);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = at_once;
        }
    }
    total.add(&sidecars);
    total.raise(&peak);
    of_whole_pod(pod, spec, &mut total);
    total.add(&Amounts::of(spec.overhead.as_ref()));
    total
}

/// What is asked for the pod as a whole stands above what its containers ask for.
fn of_whole_pod(pod: &Pod, spec: &PodSpec, total: &mut Amounts) {
    let Some(requests) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) else { return };
    let asked = Amounts::of(Some(requests));
    let given = Amounts::of(pod.status.as_ref().and_then(|status| status.allocated_resources.as_ref()));
    for name in requests.keys().filter(|name| *name == "cpu" || *name == "memory" || name.starts_with("hugepages-")) {
        total.set(name, asked.get(name).max(given.get(name)));
    }
}

/// Whether the node has said that it will never grant what is asked for now.
fn is_refused(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|own| own.type_ == "PodResizePending" && own.reason.as_deref() == Some("Infeasible"))
}

/// What a container asks for, or still has while it is being resized, whichever is more.
fn of_container(container: &Container, statuses: &[ContainerStatus], refused: bool) -> Amounts {
    let asked = Amounts::of(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()));
    let Some(status) = statuses.iter().find(|status| status.name == container.name) else { return asked };
    let actual = status.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    if actual.is_none() && status.allocated_resources.is_none() {
        return asked;
    }
    let mut amounts = Amounts::of(status.allocated_resources.as_ref());
    amounts.raise(&Amounts::of(actual));
    if !refused {
        amounts.raise(&asked);
    }
    amounts
}
