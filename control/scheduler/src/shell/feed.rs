//! From shared caches into the core.

use std::sync::Arc;

use corten_api::api::apps::v1::{ReplicaSet, StatefulSet};
use corten_api::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service,
};
use corten_api::api::policy::v1::PodDisruptionBudget;
use corten_api::api::storage::v1::{CSINode, StorageClass};
use corten_base::Timestamp;
use corten_client::{Informer, Informers, Key};
use kube::ResourceExt;
use tokio::sync::watch;

use super::inbox::{Id, Inbox};
use crate::cache::{Budget, ClaimInfo, ClassInfo, VolumeInfo};
use crate::core::Core;
use crate::model::{Labels, NodeFacts, PodInfo, Selector, hashed};

/// The caches, and what has changed in them.
pub(super) struct Feed {
    inbox: Arc<Inbox>,
    /// Counts up with every change of a claim.
    claims_changed: watch::Receiver<u64>,
    pub(super) pods: Informer<Pod>,
    pub(super) nodes: Informer<Node>,
    pub(super) claims: Informer<PersistentVolumeClaim>,
    pub(super) volumes: Informer<PersistentVolume>,
    namespaces: Informer<Namespace>,
    classes: Informer<StorageClass>,
    csi_nodes: Informer<CSINode>,
    budgets: Informer<PodDisruptionBudget>,
    services: Informer<Service>,
    replica_sets: Informer<ReplicaSet>,
    stateful_sets: Informer<StatefulSet>,
    controllers: Informer<ReplicationController>,
}

/// Has an informer put what changes into the inbox.
fn listen<K: corten_client::Kind>(informer: &Informer<K>, inbox: &Arc<Inbox>, id: fn(Key) -> Id) {
    let inbox = Arc::clone(inbox);
    informer.on_change(move |old, new| {
        if let Some(object) = new.or(old) {
            inbox.add(id(Key::of(object)));
        }
    });
}

impl Feed {
    pub(super) fn new(informers: &Informers) -> Self {
        let (count, claims_changed) = watch::channel(0);
        let feed = Self {
            inbox: Arc::default(),
            claims_changed,
            pods: informers.of(),
            nodes: informers.of(),
            claims: informers.of(),
            volumes: informers.of(),
            namespaces: informers.of(),
            classes: informers.of(),
            csi_nodes: informers.of(),
            budgets: informers.of(),
            services: informers.of(),
            replica_sets: informers.of(),
            stateful_sets: informers.of(),
            controllers: informers.of(),
        };
        let inbox = &feed.inbox;
        listen(&feed.nodes, inbox, |key| Id::Node(key.name));
        listen(&feed.pods, inbox, Id::Pod);
        listen(&feed.claims, inbox, Id::Claim);
        listen(&feed.volumes, inbox, |key| Id::Volume(key.name));
        listen(&feed.namespaces, inbox, |key| Id::Namespace(key.name));
        listen(&feed.classes, inbox, |key| Id::Class(key.name));
        listen(&feed.csi_nodes, inbox, |key| Id::CsiNode(key.name));
        listen(&feed.budgets, inbox, Id::Budget);
        listen(&feed.services, inbox, Id::Service);
        listen(&feed.replica_sets, inbox, Id::ReplicaSet);
        listen(&feed.stateful_sets, inbox, Id::StatefulSet);
        listen(&feed.controllers, inbox, Id::ReplicationController);
        feed.claims.on_change(move |_, _| count.send_modify(|count| *count = count.wrapping_add(1)));
        feed
    }

    /// Returns once all caches are complete.
    pub(super) async fn synced(&self) {
        tokio::join!(self.nodes.synced(), self.pods.synced(), self.claims.synced(), self.volumes.synced());
        tokio::join!(self.namespaces.synced(), self.classes.synced(), self.csi_nodes.synced(), self.budgets.synced());
        tokio::join!(self.services.synced(), self.replica_sets.synced());
        tokio::join!(self.stateful_sets.synced(), self.controllers.synced());
    }

    /// What has changed since the last call.
    pub(super) fn drain(&self) -> Vec<Id> {
        self.inbox.drain()
    }

    /// Returns once something has changed.
    pub(super) async fn changed(&self) {
        self.inbox.changed().await;
    }

    /// Tells of every change of a claim from now on.
    pub(super) fn watch_claims(&self) -> watch::Receiver<u64> {
        self.claims_changed.clone()
    }

    /// A pod as the cache has it, unless it has ended.
    pub(super) fn pod(&self, key: &Key) -> Option<PodInfo> {
        self.pods.by_key(key).filter(|pod| !has_ended(pod)).map(|pod| PodInfo::of(&pod))
    }

    /// Brings the core up to date about one object.
    pub(super) fn apply(&self, core: &mut Core, id: &Id, now: Timestamp) {
        match id {
            Id::Pod(key) => core.set_pod(key, self.pod(key), now),
            Id::Node(name) => {
                let node = self.nodes.get("", name);
                core.set_node(name, node.map(|node| NodeFacts::of(&node)), now);
            }
            Id::Namespace(name) => {
                let namespace = self.namespaces.get("", name);
                let labels = namespace.map(|namespace| Labels::of(namespace.metadata.labels.as_ref()));
                if core.cache.set_namespace(hashed(name), labels) {
                    core.namespaces_changed(now);
                }
            }
            Id::Budget(key) => core.cache.budgets.set(key.clone(), self.budgets.by_key(key).map(|own| budget(&own))),
            Id::Service(key) => {
                let spec = self.services.by_key(key).and_then(|service| service.spec.clone());
                let map = spec.and_then(|spec| spec.selector).filter(|map| !map.is_empty());
                core.cache.workloads.set_service(key, map.map(|map| Selector::of_map(&map)));
            }
            Id::ReplicaSet(key) => {
                let spec = self.replica_sets.by_key(key).and_then(|set| set.spec.clone());
                let selector = spec.map(|spec| Selector::of(Some(&spec.selector)));
                core.cache.workloads.set_owner("ReplicaSet", key.clone(), selector);
            }
            Id::StatefulSet(key) => {
                let spec = self.stateful_sets.by_key(key).and_then(|set| set.spec.clone());
                let selector = spec.map(|spec| Selector::of(Some(&spec.selector)));
                core.cache.workloads.set_owner("StatefulSet", key.clone(), selector);
            }
            Id::ReplicationController(key) => {
                let spec = self.controllers.by_key(key).and_then(|controller| controller.spec.clone());
                let selector = spec.and_then(|spec| spec.selector).map(|map| Selector::of_map(&map));
                core.cache.workloads.set_owner("ReplicationController", key.clone(), selector);
            }
            Id::Claim(_) | Id::Volume(_) | Id::Class(_) | Id::CsiNode(_) => self.apply_storage(core, id, now),
        }
    }

    fn apply_storage(&self, core: &mut Core, id: &Id, now: Timestamp) {
        let storage = &mut core.cache.storage;
        let changed = match id {
            Id::Claim(key) => {
                if storage.set_claim(key.clone(), self.claims.by_key(key).map(|own| ClaimInfo::of(&own))) {
                    core.claim_changed(key, now);
                }
                return;
            }
            Id::Volume(name) => storage.set_volume(name, self.volumes.get("", name).map(|own| VolumeInfo::of(&own))),
            Id::Class(name) => storage.set_class(name, self.classes.get("", name).map(|own| ClassInfo::of(&own))),
            Id::CsiNode(name) => {
                let node = self.csi_nodes.get("", name);
                let drivers = node.into_iter().flat_map(|node| node.spec.drivers.clone());
                let limit = |driver: corten_api::api::storage::v1::CSINodeDriver| {
                    Some((driver.name, i64::from(driver.allocatable?.count?)))
                };
                storage.set_limits(name, drivers.filter_map(limit).collect())
            }
            _ => false,
        };
        if changed {
            core.storage_changed(now);
        }
    }
}

fn has_ended(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"))
}

fn budget(budget: &PodDisruptionBudget) -> Budget {
    let status = budget.status.as_ref();
    Budget {
        namespace: hashed(&budget.namespace().unwrap_or_default()),
        selector: Selector::of(budget.spec.as_ref().and_then(|spec| spec.selector.as_ref())),
        allowed: status.and_then(|status| status.disruptions_allowed).unwrap_or(0),
        disrupted: status.and_then(|status| status.disrupted_pods.clone()).unwrap_or_default().into_keys().collect(),
    }
}
