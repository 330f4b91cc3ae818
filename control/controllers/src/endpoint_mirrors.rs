//! Copies Endpoints that people write by hand, for services without a selector, into EndpointSlices.
//!
//! Spec: <https://kubernetes.io/docs/concepts/services-networking/service/#endpointslice-mirroring>
//! Invariant: touches only slices that carry its own managed-by label.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use corten_api::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use corten_api::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use corten_api::meta::ObjectMeta;
use corten_client::{Informer, Key, Next, Writes};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};

use crate::context::{Context, Error, or_gone};
use crate::endpoint_slices::{MANAGED_BY, SERVICE_NAME};
use crate::owners;

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// Endpoints with this label are left alone.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// So are those by which old clients elect leaders.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that say something of the Endpoints alone.
const OWN_ANNOTATIONS: [&str; 2] =
    ["kubectl.kubernetes.io/last-applied-configuration", "endpoints.kubernetes.io/last-change-trigger-time"];
/// Addresses of a subset that are copied.
const MOST: usize = 1000;

pub(crate) async fn run(cx: Context) {
    let (services, endpoints) = (cx.informers.of::<Service>(), cx.informers.of::<Endpoints>());
    let slices = cx.informers.of::<EndpointSlice>();
    let queue = cx.queue.clone();
    services.on_change(move |old, new| queue.add(Key::of(new.or(old).unwrap_or(&Service::default()))));
    let queue = cx.queue.clone();
    endpoints.on_change(move |old, new| queue.add(Key::of(new.or(old).unwrap_or(&Endpoints::default()))));
    let queue = cx.queue.clone();
    slices.on_change(move |old, new| {
        if let Some(slice) = new.or(old).filter(|slice| is_own(slice))
            && let Some(service) = slice.labels().get(SERVICE_NAME)
        {
            queue.add(Key::new(slice.namespace().unwrap_or_default(), &**service));
        }
    });
    tokio::join!(services.synced(), endpoints.synced(), slices.synced());
    cx.work(2, move |cx, key| sync(cx, services.clone(), endpoints.clone(), slices.clone(), key)).await;
}

fn is_own(slice: &EndpointSlice) -> bool {
    slice.labels().get(MANAGED_BY).is_some_and(|manager| manager == MANAGER)
}

/// Whether these are for this controller to copy.
fn is_mirrored(endpoints: &Endpoints, service: &Service) -> bool {
    let selects = service.spec.as_ref().is_some_and(|spec| spec.selector.as_ref().is_some_and(|all| !all.is_empty()));
    let skipped = endpoints.labels().get(SKIP).is_some_and(|value| value == "true");
    !selects && !skipped && !endpoints.annotations().contains_key(LEADER)
}

/// The slices that show these Endpoints, without names, by the ports and the family of their addresses.
fn wanted(endpoints: &Endpoints) -> Vec<EndpointSlice> {
    let mut labels = endpoints.labels().clone();
    labels.insert(SERVICE_NAME.to_owned(), endpoints.name_any());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = endpoints.annotations().clone();
    annotations.retain(|name, _| !OWN_ANNOTATIONS.contains(&name.as_str()));
    let mut slices = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        for (address_type, endpoints_of) in by_family(subset) {
            slices.push(EndpointSlice {
                metadata: ObjectMeta {
                    generate_name: Some(format!("{}-", endpoints.name_any())),
                    namespace: endpoints.namespace(),
                    labels: Some(labels.clone()),
                    annotations: (!annotations.is_empty()).then(|| annotations.clone()),
                    owner_references: Some(vec![owners::reference(endpoints)]),
                    ..ObjectMeta::default()
                },
                address_type: address_type.to_owned(),
                endpoints: Some(endpoints_of),
                ports: Some(ports(subset)),
            });
        }
    }
    slices
}

fn by_family(subset: &EndpointSubset) -> BTreeMap<&'static str, Vec<Endpoint>> {
    let ready = subset.addresses.iter().flatten().map(|address| (address, true));
    let unready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
    let mut families: BTreeMap<&'static str, Vec<Endpoint>> = BTreeMap::new();
    for (address, ready) in ready.chain(unready).take(MOST) {
        let family = match address.ip.parse() {
            Ok(IpAddr::V4(_)) => "IPv4",
            Ok(IpAddr::V6(_)) => "IPv6",
            Err(_) => continue,
        };
        families.entry(family).or_default().push(endpoint(address, ready));
    }
    families
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn ports(subset: &EndpointSubset) -> Vec<EndpointPort> {
    let port = |port: &corten_api::api::core::v1::EndpointPort| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
        port: Some(port.port),
    };
    subset.ports.iter().flatten().map(port).collect()
}

/// What is to be done.
#[derive(Debug, Default)]
struct Plan {
    create: Vec<EndpointSlice>,
    update: Vec<EndpointSlice>,
    delete: Vec<String>,
}

fn plan(wanted: Vec<EndpointSlice>, existing: &[Arc<EndpointSlice>]) -> Plan {
    let mut plan = Plan::default();
    let mut left: Vec<&Arc<EndpointSlice>> = existing.iter().collect();
    for mut slice in wanted {
        let same = |old: &&Arc<EndpointSlice>| old.address_type == slice.address_type && old.ports == slice.ports;
        let Some(at) = left.iter().position(same) else {
            plan.create.push(slice);
            continue;
        };
        let old = left.swap_remove(at);
        let differs = old.endpoints != slice.endpoints
            || old.labels() != slice.labels()
            || old.annotations() != slice.annotations();
        if differs {
            let (labels, annotations) = (slice.metadata.labels.take(), slice.metadata.annotations.take());
            slice.metadata = ObjectMeta { labels, annotations, ..old.metadata.clone() };
            plan.update.push(slice);
        }
    }
    plan.delete = left.iter().map(|slice| slice.name_any()).collect();
    plan
}

async fn sync(
    cx: Context,
    services: Informer<Service>,
    endpoints: Informer<Endpoints>,
    slices: Informer<EndpointSlice>,
    key: Key,
) -> Result<Next, Error> {
    let source = endpoints.by_key(&key).filter(|own| own.metadata.deletion_timestamp.is_none());
    let service = services.by_key(&key);
    let source = source.zip(service).filter(|(own, service)| is_mirrored(own, service)).map(|(own, _)| own);
    let of_service = |slice: &Arc<EndpointSlice>| is_own(slice) && slice.labels().get(SERVICE_NAME) == Some(&key.name);
    let existing: Vec<Arc<EndpointSlice>> = slices.list_in(&key.namespace).into_iter().filter(of_service).collect();
    let plan = plan(source.map(|own| wanted(&own)).unwrap_or_default(), &existing);
    let api: Api<EndpointSlice> = Api::namespaced(cx.client.clone(), &key.namespace);
    let mut writes = Writes::default();
    for slice in &plan.create {
        writes.note(&slices, &api.create(&PostParams::default(), slice).await?);
    }
    for slice in &plan.update {
        let replaced = api.replace(&slice.name_any(), &PostParams::default(), slice).await;
        or_gone(replaced)?.iter().for_each(|slice| writes.note(&slices, slice));
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

    fn endpoints(subsets: Value) -> Endpoints {
        serde_json::from_value(json!({
            "metadata": {"name": "db", "namespace": "a", "uid": "e", "labels": {"x": "y"},
                "annotations": {OWN_ANNOTATIONS[0]: "{}", "kept": "yes"}},
            "subsets": subsets,
        }))
        .expect("endpoints")
    }

    fn service(selector: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "db"}, "spec": {"selector": selector}})).expect("a service")
    }

    fn stored(slices: Vec<EndpointSlice>) -> Vec<Arc<EndpointSlice>> {
        let named = slices.into_iter().enumerate().map(|(number, mut slice)| {
            slice.metadata.name = Some(format!("db-{number}"));
            Arc::new(slice)
        });
        named.collect()
    }

    #[test]
    fn each_subset_and_family_has_a_slice() {
        let own = endpoints(json!([
            {"addresses": [{"ip": "10.1.2.3", "nodeName": "n"}, {"ip": "fd00::1"}], "notReadyAddresses": [{"ip": "10.1.2.4"}],
             "ports": [{"name": "http", "port": 80}]},
        ]));
        let slices = wanted(&own);
        let shown: Vec<String> = slices
            .iter()
            .map(|slice| {
                let ready = slice.endpoints.iter().flatten().map(|endpoint| {
                    let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready);
                    format!("{}={}", endpoint.addresses[0], ready == Some(true))
                });
                format!("{} {}", slice.address_type, ready.collect::<Vec<_>>().join(","))
            })
            .collect();
        assert_eq!(shown, ["IPv4 10.1.2.3=true,10.1.2.4=false", "IPv6 fd00::1=true"]);
        assert_eq!(slices[0].annotations().keys().collect::<Vec<_>>(), ["kept"]);
        assert_eq!(slices[0].labels()[MANAGED_BY], MANAGER);
    }

    #[test]
    fn slices_follow_and_go() {
        let own = endpoints(json!([{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}]));
        let existing = stored(plan(wanted(&own), &[]).create);
        let same = plan(wanted(&own), &existing);
        assert_eq!((same.create.len(), same.update.len(), same.delete.len()), (0, 0, 0));
        let moved = endpoints(json!([{"addresses": [{"ip": "10.1.2.9"}], "ports": [{"port": 80}]}]));
        let moved = plan(wanted(&moved), &existing);
        assert_eq!((moved.create.len(), moved.update[0].name_any(), moved.delete.len()), (0, "db-0".to_owned(), 0));
        assert_eq!(plan(Vec::new(), &existing).delete, ["db-0"]);
    }

    #[test]
    fn only_what_people_write_is_copied() {
        let mut own = endpoints(json!([]));
        assert!(is_mirrored(&own, &service(json!(null))));
        assert!(!is_mirrored(&own, &service(json!({"app": "db"}))));
        own.metadata.labels = Some(BTreeMap::from([(SKIP.to_owned(), "true".to_owned())]));
        assert!(!is_mirrored(&own, &service(json!(null))));
    }
}
