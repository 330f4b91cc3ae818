//! Claims, volumes, storage classes, and what drivers allow on each node.

use std::collections::{BTreeMap, BTreeSet, HashMap as ByText};
use std::sync::Arc;

use corten_api::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use corten_api::api::storage::v1::StorageClass;
use corten_api::k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use corten_api::quantity::Quantity;
use corten_client::Key;
use kube::ResourceExt;

use crate::model::{HashMap, Labels, NodeSelector, PodInfo, Selector, hashed};

/// The annotation that tells the provisioner where a volume is wanted.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const ZONES: [&str; 4] = [
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
];

/// A claim.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ClaimInfo {
    pub(crate) uid: String,
    pub(crate) owner: String,
    pub(crate) deleting: bool,
    pub(crate) lost: bool,
    /// Whether it has its volume for good.
    pub(crate) bound: bool,
    pub(crate) volume: String,
    pub(crate) class: String,
    pub(crate) selected_node: Option<String>,
    pub(crate) modes: Vec<String>,
    pub(crate) mode: String,
    pub(crate) size: i64,
    pub(crate) selector: Option<Selector>,
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct VolumeInfo {
    pub(crate) name: String,
    pub(crate) nodes: Option<NodeSelector>,
    /// Zone labels and the values that they allow.
    pub(crate) zones: Vec<(u64, Vec<u64>)>,
    pub(crate) claim: Option<(Key, String)>,
    pub(crate) deleting: bool,
    pub(crate) class: String,
    pub(crate) modes: Vec<String>,
    pub(crate) mode: String,
    pub(crate) size: i64,
    pub(crate) labels: Labels,
    /// Driver and handle.
    pub(crate) csi: Option<(String, String)>,
}

/// A storage class.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ClassInfo {
    /// Whether claims wait for their first pod.
    pub(crate) waits: bool,
    /// Empty if nothing is provisioned.
    pub(crate) provisioner: String,
    /// Alternatives of labels that nodes must have; none for all nodes.
    pub(crate) nodes: Vec<Vec<(u64, Vec<u64>)>>,
}

#[derive(Default)]
pub(crate) struct Storage {
    claims: ByText<Key, Arc<ClaimInfo>>,
    volumes: BTreeMap<String, Arc<VolumeInfo>>,
    classes: ByText<String, ClassInfo>,
    /// How many volumes of each driver a node takes, by the hash of its name.
    limits: HashMap<u64, Vec<(String, i64)>>,
    /// How many pods with a node use each claim, and on which nodes they are.
    users: ByText<Key, Vec<String>>,
    /// Volumes promised to claims by decisions that are not in the API yet.
    promised: ByText<String, Key>,
}

fn size(texts: Option<&BTreeMap<String, Text>>) -> i64 {
    let text = texts.and_then(|texts| texts.get("storage"));
    text.and_then(|text| Quantity::of(text).ok()).map_or(0, Quantity::units)
}

impl ClaimInfo {
    pub(crate) fn of(claim: &PersistentVolumeClaim) -> Self {
        let spec = claim.spec.clone().unwrap_or_default();
        let volume = spec.volume_name.unwrap_or_default();
        let old_class = claim.annotations().get("volume.beta.kubernetes.io/storage-class").cloned();
        let owner = claim.owner_references().iter().find(|owner| owner.controller == Some(true));
        Self {
            uid: claim.uid().unwrap_or_default(),
            owner: owner.map(|owner| owner.uid.clone()).unwrap_or_default(),
            deleting: claim.metadata.deletion_timestamp.is_some(),
            lost: claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost"),
            bound: !volume.is_empty() && claim.annotations().contains_key(BIND_COMPLETED),
            volume,
            class: old_class.or(spec.storage_class_name).unwrap_or_default(),
            selected_node: claim.annotations().get(SELECTED_NODE).cloned(),
            modes: spec.access_modes.unwrap_or_default(),
            mode: spec.volume_mode.unwrap_or_else(|| "Filesystem".to_owned()),
            size: size(spec.resources.as_ref().and_then(|resources| resources.requests.as_ref())),
            selector: spec.selector.as_ref().map(|selector| Selector::of(Some(selector))),
        }
    }

    /// Whether only one pod may use it.
    pub(crate) fn is_for_one_pod(&self) -> bool {
        self.modes.iter().any(|mode| mode == "ReadWriteOncePod")
    }
}

impl VolumeInfo {
    pub(crate) fn of(volume: &PersistentVolume) -> Self {
        let spec = volume.spec.clone().unwrap_or_default();
        let required = spec.node_affinity.as_ref().and_then(|affinity| affinity.required.as_ref());
        let zone = |key: &&str| {
            let value = volume.labels().get(*key)?;
            Some((hashed(key), value.split("__").map(hashed).collect()))
        };
        Self {
            name: volume.name_any(),
            nodes: required.map(NodeSelector::of),
            zones: ZONES.iter().filter_map(zone).collect(),
            claim: spec.claim_ref.map(|claim| {
                let key = Key::new(claim.namespace.unwrap_or_default(), claim.name.unwrap_or_default());
                (key, claim.uid.unwrap_or_default())
            }),
            deleting: volume.metadata.deletion_timestamp.is_some(),
            class: spec.storage_class_name.unwrap_or_default(),
            modes: spec.access_modes.unwrap_or_default(),
            mode: spec.volume_mode.unwrap_or_else(|| "Filesystem".to_owned()),
            size: size(spec.capacity.as_ref()),
            labels: Labels::of(volume.metadata.labels.as_ref()),
            csi: spec.csi.map(|csi| (csi.driver, csi.volume_handle)),
        }
    }

    /// Whether the volume is free for, or was made for, the claim and satisfies it.
    fn suits(&self, key: &Key, claim: &ClaimInfo) -> bool {
        let free = match &self.claim {
            None => true,
            Some((own, uid)) => own == key && (uid.is_empty() || *uid == claim.uid),
        };
        free && !self.deleting
            && self.class == claim.class
            && self.mode == claim.mode
            && self.size >= claim.size
            && claim.modes.iter().all(|mode| self.modes.contains(mode))
            && claim.selector.as_ref().is_none_or(|selector| selector.matches(&self.labels))
    }
}

impl ClassInfo {
    pub(crate) fn of(class: &StorageClass) -> Self {
        let nodes = class.allowed_topologies.iter().flatten().map(|term| {
            let labels = term.match_label_expressions.iter().flatten();
            labels.map(|own| (hashed(&own.key), own.values.iter().map(|value| hashed(value)).collect())).collect()
        });
        let provisioner = class.provisioner.clone();
        Self {
            waits: class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"),
            provisioner: if provisioner == "kubernetes.io/no-provisioner" { String::new() } else { provisioner },
            nodes: nodes.collect(),
        }
    }

    /// Whether volumes can be made for nodes with these labels.
    pub(crate) fn serves(&self, labels: &Labels) -> bool {
        let all = |term: &Vec<(u64, Vec<u64>)>| {
            term.iter().all(|(key, values)| labels.get(*key).is_some_and(|value| values.contains(&value)))
        };
        self.nodes.is_empty() || self.nodes.iter().any(all)
    }
}

impl Storage {
    pub(crate) fn claim(&self, namespace: &str, name: &str) -> Option<&Arc<ClaimInfo>> {
        self.claims.get(&Key::new(namespace, name))
    }

    pub(crate) fn volume(&self, name: &str) -> Option<&Arc<VolumeInfo>> {
        self.volumes.get(name)
    }

    pub(crate) fn class(&self, name: &str) -> Option<&ClassInfo> {
        self.classes.get(name)
    }

    /// How many volumes of each driver a node takes.
    pub(crate) fn limits(&self, node: u64) -> &[(String, i64)] {
        self.limits.get(&node).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn has_limits(&self) -> bool {
        !self.limits.is_empty()
    }

    pub(crate) fn set_claim(&mut self, key: Key, claim: Option<ClaimInfo>) -> bool {
        let changed = self.claims.get(&key).map(AsRef::as_ref) != claim.as_ref();
        match claim {
            Some(claim) => drop(self.claims.insert(key, Arc::new(claim))),
            None => drop(self.claims.remove(&key)),
        }
        changed
    }

    pub(crate) fn set_volume(&mut self, name: &str, volume: Option<VolumeInfo>) -> bool {
        let changed = self.volumes.get(name).map(AsRef::as_ref) != volume.as_ref();
        match volume {
            Some(volume) => drop(self.volumes.insert(name.to_owned(), Arc::new(volume))),
            None => drop(self.volumes.remove(name)),
        }
        changed
    }

    pub(crate) fn set_class(&mut self, name: &str, class: Option<ClassInfo>) -> bool {
        let changed = self.classes.get(name) != class.as_ref();
        match class {
            Some(class) => drop(self.classes.insert(name.to_owned(), class)),
            None => drop(self.classes.remove(name)),
        }
        changed
    }

    pub(crate) fn set_limits(&mut self, node: &str, limits: Vec<(String, i64)>) -> bool {
        let node = hashed(node);
        let changed = self.limits(node) != limits.as_slice();
        if limits.is_empty() {
            self.limits.remove(&node);
        } else {
            self.limits.insert(node, limits);
        }
        changed
    }

    pub(super) fn use_claims(&mut self, pod: &PodInfo, comes: bool) {
        for claim in &pod.claims {
            let key = Key::new(pod.key.namespace.clone(), claim.name.clone());
            let users = self.users.entry(key.clone()).or_default();
            if comes {
                users.push(pod.key.name.clone());
            } else if let Some(at) = users.iter().position(|own| *own == pod.key.name) {
                users.remove(at);
            }
            if users.is_empty() {
                self.users.remove(&key);
            }
        }
    }

    /// How many pods that have a node use a claim.
    pub(crate) fn users(&self, key: &Key) -> usize {
        self.users.get(key).map_or(0, Vec::len)
    }

    /// The smallest free volume that satisfies the claim and may be used where `there` says; not one of `taken`.
    pub(crate) fn find(
        &self,
        key: &Key,
        claim: &ClaimInfo,
        taken: &BTreeSet<String>,
        there: impl Fn(&VolumeInfo) -> bool,
    ) -> Option<&Arc<VolumeInfo>> {
        let free = |volume: &&Arc<VolumeInfo>| {
            volume.suits(key, claim)
                && !taken.contains(&volume.name)
                && self.promised.get(&volume.name).is_none_or(|own| own == key)
                && there(volume)
        };
        // One that was made for the claim comes first.
        self.volumes.values().filter(free).min_by_key(|volume| (volume.claim.is_none(), volume.size))
    }

    /// A decision gave the volume to the claim.
    pub(crate) fn promise(&mut self, volume: &str, claim: Key) {
        self.promised.insert(volume.to_owned(), claim);
    }

    /// The promise is kept, or void.
    pub(crate) fn release(&mut self, volume: &str) {
        self.promised.remove(volume);
    }
}
