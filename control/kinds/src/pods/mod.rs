//! Pods: containers that live and die together.

mod columns;
mod defaults;
mod paths;
pub(crate) mod template;
mod update;
mod validate;

use corten_api::api::core::v1::{Pod, PodSpec, PodStatus};
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_api::quantity::Quantity;
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::Value;

use crate::kind::{Kind, at, plain};
use crate::{ColumnHead, Deletion, Subresource, WriteContext};

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
    ];
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
        defaults::pod_spec(pod.spec.get_or_insert_default());
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
            None => validate::pod_spec(spec, "spec", errs),
            Some(before) => update::validate(spec, before, errs),
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
