//! Which pods belong together when their spec does not say: those of a service, those of a controller.

use std::collections::{BTreeMap, HashMap as ByText};

use corten_client::Key;

use crate::model::{HashMap, PodInfo, Selector, hashed};

#[derive(Default)]
pub(crate) struct Workloads {
    /// Selectors of services by the hash of their namespace.
    services: HashMap<u64, BTreeMap<String, Selector>>,
    /// Selectors of controllers by kind.
    owners: ByText<(&'static str, Key), Selector>,
}

impl Workloads {
    /// Takes in a service; one without a selector selects no pods.
    pub(crate) fn set_service(&mut self, key: &Key, selector: Option<Selector>) {
        let namespace = hashed(&key.namespace);
        match selector {
            Some(selector) => drop(self.services.entry(namespace).or_default().insert(key.name.clone(), selector)),
            None => {
                if let Some(services) = self.services.get_mut(&namespace) {
                    services.remove(&key.name);
                    if services.is_empty() {
                        self.services.remove(&namespace);
                    }
                }
            }
        }
    }

    /// Takes in a controller of pods.
    pub(crate) fn set_owner(&mut self, kind: &'static str, key: Key, selector: Option<Selector>) {
        match selector {
            Some(selector) => drop(self.owners.insert((kind, key), selector)),
            None => drop(self.owners.remove(&(kind, key))),
        }
    }

    /// Selects the pods that belong together with this one; `None` if nothing says so.
    pub(crate) fn peers(&self, pod: &PodInfo) -> Option<Selector> {
        let services = self.services.get(&pod.namespace).into_iter().flat_map(BTreeMap::values);
        let of_services = services.filter(|selector| selector.matches(&pod.labels)).cloned();
        let controller = pod.wants.as_ref().and_then(|wants| wants.controller.as_ref());
        let of_owner = controller.and_then(|(kind, name)| {
            let kind = ["ReplicaSet", "StatefulSet", "ReplicationController"].into_iter().find(|own| own == kind)?;
            self.owners.get(&(kind, Key::new(pod.key.namespace.clone(), name.clone()))).cloned()
        });
        let peers = of_services.chain(of_owner).reduce(Selector::and)?;
        (!peers.is_everything()).then_some(peers)
    }
}
