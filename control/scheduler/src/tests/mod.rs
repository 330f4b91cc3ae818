//! Decisions, without a network: objects go in as the API has them, and what is decided is compared as text.

mod affinity;
mod fit;
mod preemption;
mod properties;
mod queue;
mod scores;
mod speed;
mod spread;
mod volumes;

use std::time::Duration;

use corten_api::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use corten_api::api::storage::v1::StorageClass;
use corten_base::Timestamp;
use corten_client::Key;
use serde_json::{Value, json};

use crate::cache::{ClaimInfo, ClassInfo, VolumeInfo};
use crate::core::{Core, Step};
use crate::model::{Labels, NodeFacts, PodInfo, hashed};
use crate::{Decisions, Profile};

/// A scheduler whose world a test makes.
struct World {
    core: Core,
    decisions: Decisions,
    now: Timestamp,
}

impl World {
    fn new() -> Self {
        Self::with(Profile::default())
    }

    fn with(profile: Profile) -> Self {
        let decisions = Decisions::default();
        let core = Core::new(vec![profile], decisions.clone());
        Self { core, decisions, now: Timestamp::UNIX_EPOCH }
    }

    /// Nodes `a`, `b` and on, all alike.
    fn nodes(mut self, names: &[&str], cpu: &str) -> Self {
        names.iter().for_each(|name| self.node(&node(name, cpu)));
        self
    }

    fn node(&mut self, object: &Value) {
        let node: Node = serde_json::from_value(object.clone()).expect("a node");
        let facts = NodeFacts::of(&node);
        let name = facts.name.to_string();
        self.core.set_node(&name, Some(facts), self.now);
    }

    fn pod(&mut self, object: &Value) {
        let pod: Pod = serde_json::from_value(object.clone()).expect("a pod");
        self.core.set_pod(&Key::of(&pod), Some(PodInfo::of(&pod)), self.now);
    }

    /// A pod that is on a node.
    fn placed(&mut self, node: &str, mut object: Value) {
        object["spec"]["nodeName"] = node.into();
        self.pod(&object);
    }

    fn gone(&mut self, name: &str) {
        self.core.set_pod(&Key::new("default", name), None, self.now);
    }

    fn claim(&mut self, object: Value) {
        let claim: PersistentVolumeClaim = serde_json::from_value(object).expect("a claim");
        if self.core.cache.storage.set_claim(Key::of(&claim), Some(ClaimInfo::of(&claim))) {
            self.core.claim_changed(&Key::of(&claim), self.now);
        }
    }

    fn volume(&mut self, object: Value) {
        let volume: PersistentVolume = serde_json::from_value(object).expect("a volume");
        let info = VolumeInfo::of(&volume);
        if self.core.cache.storage.set_volume(&info.name.clone(), Some(info)) {
            self.core.storage_changed(self.now);
        }
    }

    fn class(&mut self, object: Value) {
        let class: StorageClass = serde_json::from_value(object).expect("a class");
        let name = class.metadata.name.clone().expect("a name");
        self.core.cache.storage.set_class(&name, Some(ClassInfo::of(&class)));
    }

    fn namespace(&mut self, name: &str, labels: &[(&str, &str)]) {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.core.cache.set_namespace(hashed(name), Some(Labels::of(Some(&labels))));
        self.core.namespaces_changed(self.now);
    }

    fn advance(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// One decision; what was decided comes true at once. Nothing if no pod is due.
    fn decide(&mut self) -> Option<String> {
        match self.core.next(self.now, 0)? {
            Step::Bind(placement) => {
                self.core.bound(&placement, true, None, self.now);
                let claims: Vec<String> = placement.claims.iter().map(|claim| format!(" {claim:?}")).collect();
                Some(format!("{} -> {}{}", placement.pod.key.name, placement.node, claims.concat()))
            }
            Step::Reject(rejected) => {
                self.core.evicted(&rejected.pod, true, self.now);
                let victims: Vec<&str> = rejected.victims.iter().map(|pod| pod.key.name.as_str()).collect();
                let victims =
                    if victims.is_empty() { String::new() } else { format!(" preempts {}", victims.join(", ")) };
                Some(format!("{}: {}{victims}", rejected.pod.key.name, rejected.message))
            }
        }
    }

    /// All decisions that are due, one a line.
    fn decide_all(&mut self) -> String {
        let mut lines = Vec::new();
        while let Some(line) = self.decide() {
            lines.push(line);
        }
        lines.join("\n")
    }

    /// What is decided about one pod that comes now and goes again.
    fn try_pod(&mut self, spec: Value) -> String {
        self.pod(&pod("try", spec));
        let line = self.decide().expect("a decision");
        self.gone("try");
        line.strip_prefix("try").expect("about the pod").trim_start_matches([' ', ':', '-', '>']).trim().to_owned()
    }
}

fn node(name: &str, cpu: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "10"}},
    })
}

/// A node in a zone.
fn node_in(zone: &str, name: &str, cpu: &str) -> Value {
    let mut node = node(name, cpu);
    node["metadata"]["labels"]["topology.kubernetes.io/zone"] = zone.into();
    node
}

/// A pod; its spec needs no containers if it asks for nothing.
fn pod(name: &str, mut spec: Value) -> Value {
    if spec["containers"].is_null() {
        spec["containers"] = json!([{"name": "c"}]);
    }
    let labels = spec.as_object_mut().and_then(|spec| spec.remove("labels")).unwrap_or(Value::Null);
    json!({"metadata": {"name": name, "namespace": "default", "uid": name, "labels": labels}, "spec": spec})
}

/// A spec that asks for so much CPU.
fn asking(cpu: &str) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]})
}
