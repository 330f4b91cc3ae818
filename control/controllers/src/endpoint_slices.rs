//! Publishes the pods behind every service as EndpointSlices, at most a hundred endpoints each.
//!
//! Spec: <https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/>
//! Invariant: touches only slices that carry its own managed-by label.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corten_api::api::core::v1::{Pod, Service};
use corten_api::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use corten_api::meta::ObjectMeta;
use corten_client::{Informer, Key, Next, Writes};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};

use crate::context::{Context, Error, or_gone};
use crate::owners;
use crate::services::{Backend, Port, backends, feed};

pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";
const MOST: usize = 100;

pub(crate) async fn run(cx: Context) {
    let (services, pods) = (cx.informers.of::<Service>(), cx.informers.of::<Pod>());
    let slices = cx.informers.of::<EndpointSlice>();
    feed(&cx.queue, &services, &pods);
    let queue = cx.queue.clone();
    slices.on_change(move |old, new| {
        if let Some(slice) = new.or(old).filter(|slice| is_own(slice))
            && let Some(service) = slice.labels().get(SERVICE_NAME)
        {
            queue.add(Key::new(slice.namespace().unwrap_or_default(), &**service));
        }
    });
    tokio::join!(services.synced(), pods.synced(), slices.synced());
    cx.work(4, move |cx, key| sync(cx, services.clone(), pods.clone(), slices.clone(), key)).await;
}

fn is_own(slice: &EndpointSlice) -> bool {
    slice.labels().get(MANAGED_BY).is_some_and(|manager| manager == MANAGER)
}

/// What is to be done.
#[derive(Debug, Default)]
struct Plan {
    create: Vec<EndpointSlice>,
    update: Vec<EndpointSlice>,
    delete: Vec<String>,
}

fn plan(service: &Service, pods: &[Arc<Pod>], existing: &[Arc<EndpointSlice>]) -> Plan {
    let Some(mut groups) = backends(service, pods) else { return Plan::default() };
    let mut plan = Plan::default();
    if groups.is_empty() {
        // An empty slice says that the service is known and nobody is behind it.
        groups.insert(Vec::new(), Vec::new());
    }
    let mut kept: BTreeSet<String> = BTreeSet::new();
    for (ports, backends) in &groups {
        let mut left: BTreeMap<&str, &Backend> =
            backends.iter().map(|backend| (backend.ip.as_str(), backend)).collect();
        let mut new_slices: Vec<EndpointSlice> = Vec::new();
        let same_ports =
            existing.iter().filter(|slice| slice.ports.as_deref().unwrap_or_default() == endpoint_ports(ports));
        for slice in same_ports {
            // What is there stays in its slice, so that a change of one pod is a change of one slice.
            let stay = slice.endpoints.iter().flatten().filter_map(|old| left.remove(old.addresses.first()?.as_str()));
            let mut slice = (**slice).clone();
            slice.endpoints = Some(stay.map(endpoint).collect());
            slice.metadata.labels = Some(labels(service));
            kept.insert(slice.name_any());
            new_slices.push(slice);
        }
        for backend in left.into_values() {
            let room = |slice: &&mut EndpointSlice| slice.endpoints.as_ref().map_or(0, Vec::len) < MOST;
            match new_slices.iter_mut().find(room) {
                Some(slice) => slice.endpoints.get_or_insert_default().push(endpoint(backend)),
                None => new_slices.push(slice(service, ports, vec![endpoint(backend)])),
            }
        }
        if new_slices.is_empty() {
            new_slices.push(slice(service, ports, Vec::new()));
        }
        let several = new_slices.len() > 1;
        for slice in new_slices {
            let before =
                existing.iter().find(|old| old.metadata.name.is_some() && old.metadata.name == slice.metadata.name);
            let empty = slice.endpoints.as_ref().is_none_or(Vec::is_empty);
            match before {
                None => plan.create.push(slice),
                Some(_) if empty && several => plan.delete.push(slice.name_any()),
                Some(before) if before.endpoints != slice.endpoints || before.labels() != slice.labels() => {
                    plan.update.push(slice);
                }
                Some(_) => {}
            }
        }
    }
    plan.delete.extend(existing.iter().map(|slice| slice.name_any()).filter(|name| !kept.contains(name)));
    plan
}

fn endpoint(backend: &Backend) -> Endpoint {
    Endpoint {
        addresses: vec![backend.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(backend.ready),
            serving: Some(backend.serving),
            terminating: Some(backend.terminating),
        }),
        hostname: backend.hostname.clone(),
        node_name: backend.node.clone(),
        target_ref: Some(backend.target.clone()),
        ..Endpoint::default()
    }
}

fn endpoint_ports(ports: &[Port]) -> Vec<EndpointPort> {
    let port = |(name, protocol, app, number): &Port| EndpointPort {
        name: Some(name.clone()),
        protocol: Some(protocol.clone()),
        app_protocol: app.clone(),
        port: Some(*number),
    };
    ports.iter().map(port).collect()
}

/// The labels of a service's slices: the service's own, and those by which they are found.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), service.name_any());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    // Whether the service has an address is what this label says, whatever the service's own say.
    labels.remove(HEADLESS);
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

fn slice(service: &Service, ports: &[Port], endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.name_any())),
            namespace: service.namespace(),
            labels: Some(labels(service)),
            owner_references: Some(vec![owners::reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: "IPv4".to_owned(),
        endpoints: Some(endpoints),
        ports: Some(endpoint_ports(ports)),
    }
}

async fn sync(
    cx: Context,
    services: Informer<Service>,
    pods: Informer<Pod>,
    slices: Informer<EndpointSlice>,
    key: Key,
) -> Result<Next, Error> {
    // The slices of a service that is gone go by garbage collection.
    let Some(service) = services.by_key(&key).filter(|own| own.metadata.deletion_timestamp.is_none()) else {
        return Ok(Next::Wait);
    };
    let of_service = |slice: &Arc<EndpointSlice>| is_own(slice) && slice.labels().get(SERVICE_NAME) == Some(&key.name);
    let existing: Vec<Arc<EndpointSlice>> = slices.list_in(&key.namespace).into_iter().filter(of_service).collect();
    let plan = plan(&service, &pods.list_in(&key.namespace), &existing);
    let api: Api<EndpointSlice> = Api::namespaced(cx.client.clone(), &key.namespace);
    let mut writes = Writes::default();
    for slice in &plan.create {
        writes.note(&slices, &api.create(&PostParams::default(), slice).await?);
    }
    for slice in &plan.update {
        writes.note(&slices, &api.replace(&slice.name_any(), &PostParams::default(), slice).await?);
    }
    for name in &plan.delete {
        or_gone(api.delete(name, &DeleteParams::default()).await)?;
    }
    writes.settle().await;
    Ok(Next::Wait)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(target: Value) -> Service {
        let object = json!({"metadata": {"name": "web", "namespace": "a", "uid": "s"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": target, "protocol": "TCP"}]}});
        serde_json::from_value(object).expect("a service")
    }

    fn pod(number: u8, ready: bool, deleted: bool) -> Arc<Pod> {
        let mut object = json!({
            "metadata": {"name": format!("p{number}"), "namespace": "a", "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}]},
            "status": {"podIP": format!("10.42.0.{number}"), "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        });
        if deleted {
            object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        Arc::new(serde_json::from_value(object).expect("a pod"))
    }

    fn named(mut slices: Vec<EndpointSlice>) -> Vec<Arc<EndpointSlice>> {
        for (index, slice) in slices.iter_mut().enumerate() {
            slice.metadata.name.get_or_insert_with(|| format!("web-{index}"));
        }
        slices.into_iter().map(Arc::new).collect()
    }

    #[test]
    fn slices_follow_the_pods() {
        let service = service(json!("http"));
        let pods = [pod(1, true, false), pod(2, false, false), pod(3, true, true)];
        let first = plan(&service, &pods, &[]);
        let slice = &first.create[0];
        assert_eq!(slice.ports.as_ref().expect("ports")[0].port, Some(8080));
        let ready: Vec<_> =
            slice.endpoints.iter().flatten().map(|e| e.conditions.clone().and_then(|c| c.ready)).collect();
        assert_eq!(ready, [Some(true), Some(false), Some(false)]);
        let existing = named(first.create);
        let same = plan(&service, &pods, &existing);
        assert!(same.create.is_empty() && same.update.is_empty() && same.delete.is_empty());
        let fewer = plan(&service, &pods[..1], &existing);
        assert_eq!((fewer.update.len(), fewer.update[0].endpoints.as_ref().map(Vec::len)), (1, Some(1)));
    }

    #[test]
    fn a_slice_holds_a_hundred() {
        let service = service(json!(8080));
        let pods: Vec<Arc<Pod>> = (0..250).map(|number| pod(number, true, false)).collect();
        let plan = super::plan(&service, &pods, &[]);
        let mut sizes: Vec<usize> =
            plan.create.iter().map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len)).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [50, 100, 100]);
        let existing = named(plan.create);
        let none = super::plan(&service, &[], &existing);
        assert_eq!(none.create.len() + none.update.len(), 1, "one empty slice stays");
    }
}
