//! Which pods stand behind a service, and at which ports.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_api::IntOrString;
use corten_api::api::core::v1::{ObjectReference, Pod, Service, ServicePort, ServiceSpec};
use corten_api::selector::Labels;
use corten_client::{Informer, Key, Queue};
use kube::ResourceExt;

use crate::pods::{has_ended, is_ready};

/// A port as endpoints have it: name, protocol, application protocol, number.
pub(crate) type Port = (String, String, Option<String>, i32);

/// A pod behind a service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Backend {
    pub(crate) ip: String,
    pub(crate) node: Option<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
    pub(crate) target: ObjectReference,
}

/// Adds a service to the queue when it or a pod that it might select changes.
pub(crate) fn feed(queue: &Queue, services: &Informer<Service>, pods: &Informer<Pod>) {
    let own = queue.clone();
    services.on_change(move |old, new| own.add(Key::of(new.or(old).unwrap_or(&Service::default()))));
    let (own, known) = (queue.clone(), services.clone());
    pods.on_change(move |old, new| {
        if let (Some(old), Some(new)) = (old, new)
            && relevant(old) == relevant(new)
        {
            return;
        }
        let namespace = new.or(old).and_then(ResourceExt::namespace).unwrap_or_default();
        for service in known.list_in(&namespace) {
            let selected = [old, new].into_iter().flatten().any(|pod| selects(&service, pod));
            if selected {
                own.add(Key::of(&*service));
            }
        }
    });
}

/// What of a pod endpoints depend on.
fn relevant(pod: &Pod) -> impl PartialEq + use<> {
    let status = pod.status.as_ref();
    (
        pod.metadata.labels.clone(),
        pod.metadata.deletion_timestamp.clone(),
        status.and_then(|status| status.pod_ip.clone()),
        is_ready(pod),
        has_ended(pod),
    )
}

fn selects(service: &Service, pod: &Pod) -> bool {
    let selector =
        service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).filter(|selector| !selector.is_empty());
    selector.is_some_and(|selector| Labels::from_map(selector).matches_optional(pod.metadata.labels.as_ref()))
}

/// Backends by the ports they serve, by address. `None` if the service selects nothing itself.
pub(crate) fn backends(service: &Service, pods: &[Arc<Pod>]) -> Option<BTreeMap<Vec<Port>, Vec<Backend>>> {
    let spec = service.spec.as_ref()?;
    spec.selector.as_ref().filter(|selector| !selector.is_empty())?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let mut groups: BTreeMap<Vec<Port>, Vec<Backend>> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| selects(service, pod) && !has_ended(pod)) {
        if let Some(backend) = backend(spec, service, pod) {
            groups.entry(ports(spec, pod)).or_default().push(backend);
        }
    }
    groups.values_mut().for_each(|group| group.sort_by(|left, right| left.ip.cmp(&right.ip)));
    Some(groups)
}

fn backend(spec: &ServiceSpec, service: &Service, pod: &Pod) -> Option<Backend> {
    let ip = pod.status.as_ref()?.pod_ip.clone().filter(|ip| !ip.is_empty())?;
    let pod_spec = pod.spec.as_ref()?;
    let serving = is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let named = pod_spec.subdomain.as_deref() == service.metadata.name.as_deref();
    Some(Backend {
        ip,
        node: pod_spec.node_name.clone(),
        hostname: pod_spec.hostname.clone().filter(|name| named && !name.is_empty()),
        ready: spec.publish_not_ready_addresses == Some(true) || (serving && !terminating),
        serving,
        terminating,
        target: ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace(),
            name: Some(pod.name_any()),
            uid: pod.uid(),
            ..ObjectReference::default()
        },
    })
}

/// The service's ports as numbers on this pod; a name that the pod lacks is left out.
fn ports(spec: &ServiceSpec, pod: &Pod) -> Vec<Port> {
    let number = |port: &ServicePort| match port.target_port.as_ref() {
        None => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let containers = pod.spec.iter().flat_map(|spec| {
                let sidecars =
                    spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
                spec.containers.iter().chain(sidecars)
            });
            let mut own = containers.flat_map(|container| container.ports.iter().flatten());
            let found = own.find(|own| {
                own.name.as_deref() == Some(name)
                    && own.protocol.as_deref().unwrap_or("TCP") == port.protocol.as_deref().unwrap_or("TCP")
            });
            found.map(|own| own.container_port)
        }
    };
    let all = spec.ports.iter().flatten();
    all.filter_map(|port| {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        Some((port.name.clone().unwrap_or_default(), protocol, port.app_protocol.clone(), number(port)?))
    })
    .collect()
}
