//! What a node may do: what its own pods need, and no more.
//!
//! `pods` knows which pods are on a node, `references` what one of them uses. What a rule cannot say (a node's own
//! object, pods bound to it) is decided here; what a node may do to the content of an object is for
//! `admission::node_restriction`.
//!
//! Behaviour and wording: plugin/pkg/auth/authorizer/node of Kubernetes v1.36.

mod pods;
mod references;

use corten_store::{Snapshot, Store};
use serde_json::Value;

use super::attributes::{Attributes, KEEPER_LABEL, Resource, What};
use super::following::Following;
use super::rules::Rule;
use crate::identity::Identity;
use crate::storage;

pub(super) use pods::PodsOfNodes;
pub(crate) use references::{MIRROR, References};

/// The group of all nodes.
const NODES: &str = "system:nodes";
/// What the names of nodes' users begin with.
const PREFIX: &str = "system:node:";
/// Where nodes keep their leases.
const LEASES: &str = "kube-node-lease";

/// A user that is a node. Without a name it may do nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node<'a> {
    /// The node's name.
    pub(crate) name: &'a str,
    /// The user's.
    pub(crate) user: &'a str,
}

impl<'a> Node<'a> {
    /// The node that a user is, if it is one.
    pub(crate) fn of(user: &'a Identity) -> Option<Self> {
        let name = user.name.strip_prefix(PREFIX)?;
        user.is_in(NODES).then_some(Self { name, user: &user.name })
    }
}

/// A node's rights at this moment.
pub(super) struct NodeRights<'a> {
    pub(super) node: &'a Node<'a>,
    pub(super) pods: &'a Following<PodsOfNodes>,
    pub(super) store: &'a Store,
}

/// Allowed, or why not, in words that may be empty.
type Verdict = Result<(), String>;

fn refuse(why: &str) -> Verdict {
    Err(why.to_owned())
}

fn allow_if(good: bool, why: &str) -> Verdict {
    if good { Ok(()) } else { refuse(why) }
}

impl NodeRights<'_> {
    /// Whether the node may do something. `rules` are those that hold for all nodes where nothing here is narrower.
    pub(super) fn decide(&self, asked: &Attributes<'_>, rules: &[Rule]) -> Verdict {
        if self.node.name.is_empty() {
            return Err(format!("unknown node for user {:?}", self.node.user));
        }
        if let What::Resource(resource) = &asked.what
            && let Some(verdict) = self.narrowed(&asked.verb, resource)
        {
            return verdict;
        }
        allow_if(rules.iter().any(|rule| rule.allows(asked)), "")
    }

    /// The verdict on resources of which a node has its share only.
    fn narrowed(&self, verb: &str, asked: &Resource<'_>) -> Option<Verdict> {
        Some(match (asked.group, asked.resource) {
            ("", "secrets") => self.read(verb, asked, || self.uses_secret(asked.namespace, &asked.name)),
            ("", "configmaps") => self.read(verb, asked, || {
                self.some_pod(asked.namespace, &asked.name, |own| own.config_maps.contains(&*asked.name))
            }),
            ("", "persistentvolumeclaims") if asked.subresource == "status" => match verb {
                "update" | "patch" => self.related(asked, || self.uses_claim(asked.namespace, &asked.name)),
                _ => refuse("can only get/update/patch this type"),
            },
            // More than upstream's kubelet, which asks again and again: the agent follows the claims of its pods.
            ("", "persistentvolumeclaims") if ["list", "watch"].contains(&verb) && !asked.name.is_empty() => {
                self.read(verb, asked, || self.uses_claim(asked.namespace, &asked.name))
            }
            ("", "persistentvolumeclaims") => self.get(verb, asked, || self.uses_claim(asked.namespace, &asked.name)),
            ("", "persistentvolumes") => self.volume(verb, asked),
            ("resource.k8s.io", "resourceclaims") => self.get(verb, asked, || {
                self.some_pod(asked.namespace, &asked.name, |own| own.devices.contains(&*asked.name))
            }),
            ("storage.k8s.io", "volumeattachments") => {
                self.get(verb, asked, || self.is_of_this_node("volumeattachments", &asked.name))
            }
            ("", "serviceaccounts") => self.token(verb, asked),
            ("coordination.k8s.io", "leases") => self.lease(verb, asked),
            ("storage.k8s.io", "csinodes") => self.csi_node(verb, asked),
            ("resource.k8s.io", "resourceslices") => self.slice(verb, asked),
            ("", "nodes") => self.node(verb, asked),
            ("", "pods") => self.pod(verb, asked),
            _ => return None,
        })
    }

    /// Reads of one object in a namespace, also as a list or a watch of that one.
    fn read(&self, verb: &str, asked: &Resource<'_>, is_related: impl FnOnce() -> bool) -> Verdict {
        if !["get", "list", "watch"].contains(&verb) {
            return refuse("can only read resources of this type");
        }
        if !asked.subresource.is_empty() {
            return refuse("cannot read subresource");
        }
        if asked.namespace.is_empty() {
            return refuse("can only read namespaced object of this type");
        }
        self.related(asked, is_related)
    }

    fn get(&self, verb: &str, asked: &Resource<'_>, is_related: impl FnOnce() -> bool) -> Verdict {
        if verb != "get" {
            return refuse("can only get individual resources of this type");
        }
        if !asked.subresource.is_empty() {
            return refuse("cannot get subresource");
        }
        self.related(asked, is_related)
    }

    fn related(&self, asked: &Resource<'_>, is_related: impl FnOnce() -> bool) -> Verdict {
        if asked.name.is_empty() {
            return refuse("No Object name found");
        }
        if is_related() { Ok(()) } else { Err(self.unrelated()) }
    }

    fn unrelated(&self) -> String {
        format!("no relationship found between node '{}' and this object", self.node.name)
    }

    fn token(&self, verb: &str, asked: &Resource<'_>) -> Verdict {
        if verb != "create" || asked.name.is_empty() {
            return refuse("can only create tokens for individual service accounts");
        }
        if asked.subresource != "token" {
            return refuse("can only create token subresource of serviceaccount");
        }
        let runs = |own: &References<'_>| own.account == Some(&*asked.name);
        if self.some_pod(asked.namespace, &asked.name, runs) { Ok(()) } else { Err(self.unrelated()) }
    }

    fn lease(&self, verb: &str, asked: &Resource<'_>) -> Verdict {
        if !["get", "create", "update", "patch", "delete"].contains(&verb) {
            return refuse("can only get, create, update, patch, or delete a node lease");
        }
        if asked.namespace != LEASES {
            return Err(format!("can only access leases in the {LEASES:?} system namespace"));
        }
        // Under which name one is created, admission sees.
        let why = "can only access node lease with the same name as the requesting node";
        allow_if(verb == "create" || asked.name == self.node.name, why)
    }

    fn csi_node(&self, verb: &str, asked: &Resource<'_>) -> Verdict {
        if !["get", "create", "update", "patch", "delete"].contains(&verb) {
            return refuse("can only get, create, update, patch, or delete a CSINode");
        }
        if !asked.subresource.is_empty() {
            return refuse("cannot authorize CSINode subresources");
        }
        let why = "can only access CSINode with the same name as the requesting node";
        allow_if(verb == "create" || asked.name == self.node.name, why)
    }

    fn slice(&self, verb: &str, asked: &Resource<'_>) -> Verdict {
        if !asked.subresource.is_empty() {
            return refuse("cannot authorize ResourceSlice subresources");
        }
        match verb {
            // Of which node it is, admission sees.
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => {
                self.related(asked, || self.is_of_this_node("resourceslices", &asked.name))
            }
            "watch" | "list" | "deletecollection" => {
                let why = "can only list/watch/deletecollection resourceslices with nodeName field selector";
                allow_if(asked.node.as_deref() == Some(self.node.name), why)
            }
            _ => refuse(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    /// Beyond what its pods use, a node sees the volumes whose folders it keeps, and lets go of them.
    fn volume(&self, verb: &str, asked: &Resource<'_>) -> Verdict {
        match verb {
            "list" | "watch" if asked.node.as_deref() == Some(self.node.name) => Ok(()),
            "patch" if asked.subresource.is_empty() => self.related(asked, || self.keeps(&asked.name)),
            _ => self.get(verb, asked, || self.uses_volume(&asked.name) || self.keeps(&asked.name)),
        }
    }

    fn keeps(&self, volume: &str) -> bool {
        let volume = self.find("persistentvolumes", None, volume);
        volume.is_some_and(|volume| volume["metadata"]["labels"][KEEPER_LABEL] == *self.node.name)
    }

    fn node(&self, verb: &str, asked: &Resource<'_>) -> Verdict {
        let own = self.node.name;
        match (asked.subresource, verb) {
            // Whose it is, admission sees.
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
            ("", "get" | "list" | "watch") => match &*asked.name {
                name if name == own => Ok(()),
                "" => Err(format!("node '{own}' cannot read all nodes, only its own Node object")),
                other => Err(format!("node '{own}' cannot read '{other}', only its own Node object")),
            },
            _ => refuse(""),
        }
    }

    fn pod(&self, verb: &str, asked: &Resource<'_>) -> Verdict {
        let is_here = || self.some_pod_at(asked.namespace, &asked.name);
        match (asked.subresource, verb) {
            // Which pods these may be, admission sees.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            ("", "get") => self.related(asked, is_here),
            ("", "list" | "watch") if asked.node.as_deref() == Some(self.node.name) => Ok(()),
            ("", "list" | "watch") if !asked.name.is_empty() => self.related(asked, is_here),
            ("", "list" | "watch") => refuse("can only list/watch pods with spec.nodeName field selector"),
            _ => refuse(""),
        }
    }

    /// Whether this very pod is on the node.
    fn some_pod_at(&self, namespace: &str, name: &str) -> bool {
        let key = storage::key("pods", Some(namespace), name);
        self.pods.look(|pods| pods.node_of(&key) == Some(self.node.name))
    }

    /// Whether a pod on the node uses something. Only pods that have `name` in their text are looked at.
    fn some_pod(&self, namespace: &str, name: &str, uses: impl Fn(&References<'_>) -> bool) -> bool {
        let snapshot = self.store.snapshot();
        self.texts(&snapshot, Some(namespace), |text| text.contains(name)).any(|pod| uses(&References::of(&pod)))
    }

    /// The pods on the node whose text is worth reading.
    fn texts(
        &self,
        snapshot: &Snapshot,
        namespace: Option<&str>,
        is_worth: impl Fn(&str) -> bool,
    ) -> impl Iterator<Item = Value> {
        let prefix = storage::prefix("pods", namespace);
        let keys = self.pods.look(|pods| pods.on(self.node.name, &prefix));
        keys.into_iter().filter_map(move |key| {
            let text = std::str::from_utf8(&snapshot.get(&key)?.value).ok()?;
            if is_worth(text) { serde_json::from_str(text).ok() } else { None }
        })
    }

    fn uses_secret(&self, namespace: &str, name: &str) -> bool {
        self.some_pod(namespace, name, |own| own.secrets.contains(name))
            || self.volumes().any(|volume| references::volume_uses_secret(&volume, namespace, name))
    }

    fn uses_claim(&self, namespace: &str, name: &str) -> bool {
        let snapshot = self.store.snapshot();
        // The names of claims that come with their pod are made of two.
        let mut pods = self.texts(&snapshot, Some(namespace), |text| text.contains(name) || has_own_claims(text));
        pods.any(|pod| References::of(&pod).claims.contains(name))
    }

    fn uses_volume(&self, name: &str) -> bool {
        let Some(volume) = self.find("persistentvolumes", None, name) else { return false };
        let claim = &volume["spec"]["claimRef"];
        let part = |field: &str| claim[field].as_str().filter(|text| !text.is_empty());
        part("namespace").zip(part("name")).is_some_and(|(namespace, name)| self.uses_claim(namespace, name))
    }

    /// The volumes that pods on the node use by claims. Whoever writes a claim may name any volume in it: only those
    /// count that name the claim as well.
    fn volumes(&self) -> impl Iterator<Item = Value> {
        let snapshot = self.store.snapshot();
        let pods: Vec<Value> = self
            .texts(&snapshot, None, |text| text.contains("\"persistentVolumeClaim\":{") || has_own_claims(text))
            .collect();
        let mut volumes = Vec::new();
        for pod in &pods {
            let namespace = pod["metadata"]["namespace"].as_str();
            for name in References::of(pod).claims {
                let claim = self.find("persistentvolumeclaims", namespace, &name);
                let volume = claim.as_ref().and_then(|claim| claim["spec"]["volumeName"].as_str());
                let volume = volume.and_then(|volume| self.find("persistentvolumes", None, volume));
                volumes.extend(volume.filter(|volume| {
                    let bound = &volume["spec"]["claimRef"];
                    bound["namespace"].as_str() == namespace && bound["name"] == *name
                }));
            }
        }
        volumes.into_iter()
    }

    /// Whether a cluster-wide object says that it is this node's.
    fn is_of_this_node(&self, storage: &str, name: &str) -> bool {
        self.find(storage, None, name).is_some_and(|object| object["spec"]["nodeName"] == *self.node.name)
    }

    /// A stored object; one that cannot be read gives nobody a right.
    fn find(&self, storage: &str, namespace: Option<&str>, name: &str) -> Option<Value> {
        let snapshot = self.store.snapshot();
        storage::find(&snapshot, storage, namespace, name).ok().flatten()
    }
}

fn has_own_claims(pod: &str) -> bool {
    pod.contains("\"ephemeral\":{")
}
