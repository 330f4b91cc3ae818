//! Pods: containers that live and die together.

mod columns;
mod containers;
mod defaults;
mod env;
mod paths;
mod probes;
mod resources;
mod scheduling;
mod security;
pub(crate) mod template;
mod update;
mod validate;
mod volumes;
mod warnings;

use corten_api::api::core::v1::{Pod, PodSpec, PodStatus};
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_api::quantity::Quantity;
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::Value;

use crate::kind::{Kind, at, plain};
use crate::{ColumnHead, Deletion, Proxied, Subresource, WriteContext};

pub(crate) use scheduling::toleration;

pub(crate) struct Pods;

impl Kind for Pods {
    type Object = Pod;

    const NAMES: Names = Names {
        group: "",
        version: "v1",
        kind: "Pod",
        plural: "pods",
        singular: "pod",
        short: &["po"],
        categories: &["all"],
    };
    const SUBRESOURCES: &'static [Subresource] = &[
        Subresource::Status,
        Subresource::Binding,
        Subresource::Eviction,
        Subresource::Log,
        Subresource::Exec,
        Subresource::Attach,
        Subresource::PortForward,
        Subresource::EphemeralContainers,
        Subresource::Resize,
        Subresource::Proxy,
    ];
    const PROXIED: Option<Proxied> = Some(Proxied::Pod);
    const SHOW_DELETED: bool = true;
    const COLUMNS: &'static [ColumnHead] = columns::COLUMNS;
    const GENERATION: bool = true;
    const FIELDS: &'static [&'static str] = &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ];

    fn cells(pod: &Pod, now: Timestamp) -> Vec<Value> {
        columns::cells(pod, now)
    }

    fn default(pod: &mut Pod) {
        defaults::pod(pod.spec.get_or_insert_default());
    }

    fn prepare(new: &mut Pod, old: Option<&Pod>, _cx: &WriteContext<'_>) -> Result<(), Status> {
        if old.is_none() {
            let spec = new.spec.get_or_insert_default();
            let qos = qos_class(spec).to_owned();
            new.status =
                Some(PodStatus { phase: Some("Pending".to_owned()), qos_class: Some(qos), ..PodStatus::default() });
        }
        Ok(())
    }

    fn validate(pod: &Pod, old: Option<&Pod>, errs: &mut FieldErrors) {
        let Some(spec) = &pod.spec else { return errs.required("spec", "") };
        match old.and_then(|old| old.spec.as_ref()) {
            None => {
                validate::pod_spec(spec, "spec", errs);
                validate::new_pod(spec, errs);
            }
            Some(before) => update::validate(spec, before, errs),
        }
        mirror(pod, old, errs);
    }

    fn warnings(pod: &Pod, old: Option<&Pod>) -> Vec<String> {
        warnings::pod(pod, old)
    }

    fn part(part: Subresource, new: &Pod, old: &Pod, _cx: &WriteContext<'_>) -> Result<Option<Pod>, Status> {
        // Who may change a part changes nothing else, such as labels.
        let mut pod = old.clone();
        match part {
            Subresource::EphemeralContainers => {
                let spec = pod.spec.get_or_insert_default();
                spec.ephemeral_containers = new.spec.as_ref().and_then(|spec| spec.ephemeral_containers.clone());
            }
            Subresource::Resize => pod.spec = new.spec.clone(),
            _ => return Ok(None),
        }
        defaults::pod(pod.spec.get_or_insert_default());
        Ok(Some(pod))
    }

    fn validate_part(part: Subresource, new: &Pod, old: &Pod, errs: &mut FieldErrors) {
        let (Some(spec), Some(before)) = (&new.spec, &old.spec) else { return };
        let is_static = |pod: &Pod| pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(MIRROR));
        match part {
            Subresource::EphemeralContainers if is_static(old) => {
                errs.forbidden("", "static pods do not support ephemeral containers");
            }
            Subresource::EphemeralContainers => {
                validate::pod_spec(spec, "spec", errs);
                update::validate_ephemeral(spec, before, errs);
            }
            Subresource::Resize if is_static(old) => errs.forbidden("metadata", "static pods cannot be resized"),
            Subresource::Resize => {
                validate::pod_spec(spec, "spec", errs);
                update::validate_resize(spec, before, (qos_class(spec), qos_class(before)), errs);
            }
            _ => {}
        }
    }

    fn validate_status(new: &Pod, old: &Pod, errs: &mut FieldErrors) {
        let ended = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
            phase == "Succeeded" || phase == "Failed"
        };
        if ended(old) && !ended(new) {
            let phase = new.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
            errs.invalid("status.phase", phase, "a pod that has ended cannot run again");
        }
    }

    fn deletion(object: &Value, grace: Option<i64>) -> Deletion {
        let phase = at(object, "status.phase").as_str().unwrap_or_default();
        let unscheduled = at(object, "spec.nodeName").as_str().is_none_or(str::is_empty);
        if unscheduled || phase == "Succeeded" || phase == "Failed" {
            return Deletion::Immediate;
        }
        let own = at(object, "spec.terminationGracePeriodSeconds").as_i64().unwrap_or(30);
        match grace.unwrap_or(own) {
            0 => Deletion::Immediate,
            // As upstream: a negative period means one second.
            seconds => Deletion::Graceful { seconds: seconds.max(1) },
        }
    }

    fn field(object: &Value, name: &str) -> String {
        match (name, plain(at(object, name))) {
            ("spec.hostNetwork", text) if text.is_empty() => "false".to_owned(),
            (_, text) => text,
        }
    }
}

/// Says that a pod is the image of one that a node runs on its own.
const MIRROR: &str = "kubernetes.io/config.mirror";

fn mirror(pod: &Pod, old: Option<&Pod>, errs: &mut FieldErrors) {
    let mark = |pod: &Pod| pod.metadata.annotations.as_ref().and_then(|all| all.get(MIRROR).cloned());
    let path = format!("metadata.annotations[{MIRROR}]");
    let placed = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()).is_some_and(|name| !name.is_empty());
    match (mark(pod), old.map(mark)) {
        (Some(value), None) if !placed => {
            errs.invalid(path, value, "must set spec.nodeName if mirror pod annotation is set");
        }
        (Some(_), Some(None)) => errs.forbidden(path, "may not add mirror pod annotation"),
        (after, Some(Some(before))) if after.as_ref() != Some(&before) => {
            errs.forbidden(path, "may not remove or update mirror pod annotation");
        }
        _ => {}
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`. Spec: <https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>
fn qos_class(spec: &PodSpec) -> &'static str {
    let containers = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut guaranteed = true;
    let mut anything = false;
    for container in containers() {
        let resources = container.resources.clone().unwrap_or_default();
        let (requests, limits) = (resources.requests.unwrap_or_default(), resources.limits.unwrap_or_default());
        for name in ["cpu", "memory"] {
            let amount = |text: Option<&_>| text.and_then(|text| Quantity::of(text).ok()).filter(|q| !q.is_zero());
            let (request, limit) = (amount(requests.get(name)), amount(limits.get(name)));
            anything |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (anything, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
