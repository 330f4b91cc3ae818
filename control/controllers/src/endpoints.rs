//! Publishes the pods behind every service as Endpoints, for older clients.
//!
//! Invariant: touches only services with a selector; the others' endpoints belong to whoever made them.

use std::sync::Arc;

use corten_api::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use corten_api::meta::ObjectMeta;
use corten_client::{Informer, Key, Next, Writes};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};

use crate::context::{Context, Error, or_gone, or_there};
use crate::endpoint_slices::HEADLESS;
use crate::services::{Backend, backends, feed};

pub(crate) async fn run(cx: Context) {
    let (services, pods) = (cx.informers.of::<Service>(), cx.informers.of::<Pod>());
    let endpoints = cx.informers.of::<Endpoints>();
    feed(&cx.queue, &services, &pods);
    let queue = cx.queue.clone();
    endpoints.on_change(move |old, new| queue.add(Key::of(new.or(old).unwrap_or(&Endpoints::default()))));
    tokio::join!(services.synced(), pods.synced(), endpoints.synced());
    cx.work(4, move |cx, key| sync(cx, services.clone(), pods.clone(), endpoints.clone(), key)).await;
}

/// The endpoints of a service; `None` if it selects nothing itself.
fn plan(service: &Service, pods: &[Arc<Pod>]) -> Option<Vec<EndpointSubset>> {
    let groups = backends(service, pods)?;
    let subsets = groups.iter().map(|(ports, backends)| {
        let some = |ready: bool| {
            let list: Vec<EndpointAddress> = backends
                .iter()
                .filter(|backend| backend.ready == ready && (ready || !backend.terminating))
                .map(address)
                .collect();
            (!list.is_empty()).then_some(list)
        };
        let ports = ports.iter().map(|(name, protocol, app, number)| EndpointPort {
            name: Some(name.clone()).filter(|name| !name.is_empty()),
            protocol: Some(protocol.clone()),
            app_protocol: app.clone(),
            port: *number,
        });
        EndpointSubset { addresses: some(true), not_ready_addresses: some(false), ports: Some(ports.collect()) }
    });
    Some(subsets.filter(|subset| subset.addresses.is_some() || subset.not_ready_addresses.is_some()).collect())
}

fn address(backend: &Backend) -> EndpointAddress {
    EndpointAddress {
        ip: backend.ip.clone(),
        hostname: backend.hostname.clone(),
        node_name: backend.node.clone(),
        target_ref: Some(backend.target.clone()),
    }
}

async fn sync(
    cx: Context,
    services: Informer<Service>,
    pods: Informer<Pod>,
    endpoints: Informer<Endpoints>,
    key: Key,
) -> Result<Next, Error> {
    let api: Api<Endpoints> = Api::namespaced(cx.client.clone(), &key.namespace);
    let existing = endpoints.by_key(&key);
    let Some(service) = services.by_key(&key) else {
        // They bear the service's name and have no owner, so nobody else takes them away.
        if existing.is_some_and(|own| own.labels().contains_key(MANAGED_BY)) {
            or_gone(api.delete(&key.name, &DeleteParams::default()).await)?;
        }
        return Ok(Next::Wait);
    };
    let Some(subsets) = plan(&service, &pods.list_in(&key.namespace)) else { return Ok(Next::Wait) };
    let subsets = (!subsets.is_empty()).then_some(subsets);
    let mut writes = Writes::default();
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.to_owned(), "endpoint-controller".to_owned());
    labels.remove(HEADLESS);
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    match existing {
        None => {
            let new = Endpoints {
                metadata: ObjectMeta {
                    name: Some(key.name.clone()),
                    namespace: Some(key.namespace.clone()),
                    labels: Some(labels),
                    ..ObjectMeta::default()
                },
                subsets,
            };
            or_there(api.create(&PostParams::default(), &new).await)?
                .iter()
                .for_each(|new| writes.note(&endpoints, new));
        }
        Some(old) if old.subsets != subsets || *old.labels() != labels => {
            let mut new = (*old).clone();
            new.subsets = subsets;
            new.metadata.labels = Some(labels);
            let replaced = api.replace(&key.name, &PostParams::default(), &new).await;
            or_gone(replaced)?.iter().for_each(|new| writes.note(&endpoints, new));
        }
        Some(_) => {}
    }
    writes.settle().await;
    Ok(Next::Wait)
}

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
