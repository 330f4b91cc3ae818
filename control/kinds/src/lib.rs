//! The kinds that Corten serves, one file each.
//!
//! A kind is a declaration (`Kind`) of its names, scope, columns and subresources, plus its own
//! defaulting, validation and update rules. Everything else (routes, discovery, OpenAPI, tables) derives from it.
//! `KINDS` is the only list of all kinds.

mod access_modes;
mod admission;
mod amounts;
mod api_services;
mod certificates;
mod cluster_role_bindings;
mod cluster_roles;
mod conditions;
mod config_maps;
mod controller_revisions;
mod counts;
mod cron_jobs;
mod csi_drivers;
mod csi_nodes;
mod csi_storage_capacities;
mod daemon_sets;
mod deployments;
mod devices;
mod endpoint_slices;
mod endpoints;
mod events;
mod events_k8s_io;
mod flow;
mod horizontal_pod_autoscalers;
mod jobs;
mod kind;
mod leases;
mod limit_ranges;
mod meta;
mod namespaces;
mod net;
mod networking;
mod nodes;
mod persistent_volume_claims;
mod persistent_volumes;
mod pod_disruption_budgets;
mod pod_templates;
mod pods;
mod priority_classes;
mod rbac;
mod replica_sets;
mod replication_controllers;
mod resource_quotas;
mod role_bindings;
mod roles;
mod runtime_classes;
mod secrets;
mod selectors;
mod service_accounts;
mod services;
mod stateful_sets;
mod storage_classes;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod view;
mod virtual_kinds;
mod volume_attachments;
mod volume_attributes_classes;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use corten_api::names::{Names, Scope};
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::Value;

use kind::Erased;
use view::Viewed;

pub use priority_classes::SYSTEM_CLASSES;
pub use virtual_kinds::VirtualKind;

/// Every kind that is served, in the order of discovery.
pub static KINDS: &[&dyn AnyKind] = &[
    // core
    &virtual_kinds::BINDINGS,
    &virtual_kinds::COMPONENT_STATUSES,
    &Erased(config_maps::ConfigMaps),
    &Erased(endpoints::EndpointsKind),
    &Erased(events::Events),
    &Erased(limit_ranges::LimitRanges),
    &Erased(namespaces::Namespaces),
    &Erased(nodes::Nodes),
    &Erased(persistent_volume_claims::PersistentVolumeClaims),
    &Erased(persistent_volumes::PersistentVolumes),
    &Erased(pods::Pods),
    &Erased(pod_templates::PodTemplates),
    &Erased(replication_controllers::ReplicationControllers),
    &Erased(resource_quotas::ResourceQuotas),
    &Erased(secrets::Secrets),
    &Erased(service_accounts::ServiceAccounts),
    &Erased(services::Services),
    // apiregistration.k8s.io
    &Erased(api_services::ApiServices),
    // apps
    &Erased(controller_revisions::ControllerRevisions),
    &Erased(daemon_sets::DaemonSets),
    &Erased(deployments::Deployments),
    &Erased(replica_sets::ReplicaSets),
    &Erased(stateful_sets::StatefulSets),
    // authentication.k8s.io
    &virtual_kinds::SELF_SUBJECT_REVIEWS,
    &virtual_kinds::TOKEN_REVIEWS,
    // authorization.k8s.io
    &virtual_kinds::LOCAL_SUBJECT_ACCESS_REVIEWS,
    &virtual_kinds::SELF_SUBJECT_ACCESS_REVIEWS,
    &virtual_kinds::SELF_SUBJECT_RULES_REVIEWS,
    &virtual_kinds::SUBJECT_ACCESS_REVIEWS,
    // autoscaling
    &Erased(horizontal_pod_autoscalers::HorizontalPodAutoscalers),
    &Viewed(horizontal_pod_autoscalers::HorizontalPodAutoscalersV1),
    // batch
    &Erased(cron_jobs::CronJobs),
    &Erased(jobs::Jobs),
    // certificates.k8s.io
    &Erased(certificates::SigningRequests),
    // networking.k8s.io
    &Erased(networking::IngressClasses),
    &Erased(networking::Ingresses),
    &Erased(networking::IpAddresses),
    &Erased(networking::NetworkPolicies),
    &Erased(networking::ServiceCidrs),
    // admissionregistration.k8s.io
    &Erased(admission::MutatingBindings),
    &Erased(admission::MutatingPolicies),
    &Erased(admission::MutatingWebhooks),
    &Erased(admission::ValidatingBindings),
    &Erased(admission::ValidatingPolicies),
    &Erased(admission::ValidatingWebhooks),
    // coordination.k8s.io
    &Erased(leases::Leases),
    // events.k8s.io
    &Viewed(events_k8s_io::GroupedEvents),
    // policy
    &Erased(pod_disruption_budgets::PodDisruptionBudgets),
    // discovery.k8s.io
    &Erased(endpoint_slices::EndpointSlices),
    // storage.k8s.io
    &Erased(csi_drivers::CsiDrivers),
    &Erased(csi_nodes::CsiNodes),
    &Erased(csi_storage_capacities::CsiStorageCapacities),
    &Erased(storage_classes::StorageClasses),
    &Erased(volume_attachments::VolumeAttachments),
    &Erased(volume_attributes_classes::VolumeAttributesClasses),
    // scheduling.k8s.io
    &Erased(priority_classes::PriorityClasses),
    // node.k8s.io
    &Erased(runtime_classes::RuntimeClasses),
    // resource.k8s.io
    &Erased(devices::DeviceClasses),
    &Erased(devices::ResourceClaims),
    &Erased(devices::ResourceClaimTemplates),
    &Erased(devices::ResourceSlices),
    // rbac.authorization.k8s.io
    &Erased(cluster_role_bindings::ClusterRoleBindings),
    &Erased(cluster_roles::ClusterRoles),
    &Erased(role_bindings::RoleBindings),
    &Erased(roles::Roles),
    // flowcontrol.apiserver.k8s.io
    &Erased(flow::FlowSchemas),
    &Erased(flow::PriorityLevels),
];

/// A column of a kind's table, as `kubectl get` shows it.
#[derive(Clone, Copy, Debug)]
pub struct ColumnHead {
    /// Title, such as `Ready`.
    pub title: &'static str,
    /// JSON type: `string`, `integer`, ...
    pub kind: &'static str,
    /// Format, such as `name`; empty if none.
    pub format: &'static str,
    /// Shown only with `-o wide`.
    pub wide: bool,
}

/// What else can be done to an object than the plain verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subresource {
    /// get, update and patch of `/status`.
    Status,
    /// get, update and patch of `/scale`.
    Scale,
    /// POST `/binding` of pods.
    Binding,
    /// POST `/eviction` of pods.
    Eviction,
    /// PUT `/finalize` of namespaces.
    Finalize,
    /// POST `/token` of service accounts.
    Token,
    /// GET `/log` of pods.
    Log,
    /// `/exec` of pods.
    Exec,
    /// `/attach` of pods.
    Attach,
    /// `/portforward` of pods.
    PortForward,
    /// get, update and patch of `/ephemeralcontainers` of pods.
    EphemeralContainers,
    /// get, update and patch of `/resize` of pods.
    Resize,
    /// get, update and patch of `/approval` of certificate signing requests.
    Approval,
    /// Every method on `/proxy` and what is below it: the HTTP server behind a pod, a service or a node.
    Proxy,
}

/// What is behind `/proxy` of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxied {
    /// The pod itself.
    Pod,
    /// One of the pods of a service.
    Service,
    /// The node's kubelet, or another port of the node.
    Node,
}

/// What a write is.
#[derive(Clone, Copy, Debug)]
pub enum Operation<'a> {
    /// A new object.
    Create,
    /// A change of the object (not of its status).
    Update {
        /// The stored object.
        old: &'a Value,
    },
    /// A change of the status (besides it, only of metadata).
    UpdateStatus {
        /// The stored object.
        old: &'a Value,
    },
    /// A change through another subresource, of that part of the object that the kind says.
    UpdatePart {
        /// The stored object.
        old: &'a Value,
        /// Which subresource.
        part: Subresource,
    },
}

/// How an object is to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// Removed at once (unless finalizers hold it).
    Immediate,
    /// Marked, and removed by whoever runs it after at most so many seconds.
    Graceful {
        /// Seconds of grace.
        seconds: i64,
    },
}

/// Facts about the cluster and the moment that a write may need.
pub struct WriteContext<'a> {
    /// Now.
    pub now: Timestamp,
    /// Finds free cluster-wide values (cluster IPs, node ports).
    pub claims: &'a dyn Claims,
    /// Who creates the object; nobody where that decides nothing.
    pub user: Option<Requester<'a>>,
    /// What the client is to be told although the write is fine.
    pub warnings: &'a Warnings,
}

/// Who writes an object, for kinds that record it.
#[derive(Clone, Copy, Debug)]
pub struct Requester<'a> {
    /// User name.
    pub name: &'a str,
    /// Unique identifier of the user, if there is one.
    pub uid: &'a str,
    /// Groups of the user.
    pub groups: &'a [String],
    /// What else is known of the user.
    pub extra: &'a BTreeMap<String, Vec<String>>,
}

/// Texts for `Warning` headers, collected while a write is processed.
#[derive(Debug, Default)]
pub struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    /// Adds texts; one that is there already is not repeated.
    pub fn extend(&self, texts: Vec<String>) {
        if texts.is_empty() {
            return;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for text in texts {
            if !all.contains(&text) {
                all.push(text);
            }
        }
    }

    /// Takes what was collected.
    #[must_use]
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Cluster-wide unique values. A claim is a string such as `clusterip/10.43.0.7`; the commit of the object also
/// writes its claims, and fails if another object holds one of them.
pub trait Claims: Send + Sync {
    /// Whether nobody holds the claim.
    fn is_free(&self, claim: &str) -> bool;
    /// A number below `bound`, for picking where to start looking.
    fn random(&self, bound: usize) -> usize;
    /// The range of cluster IPs, such as 10.43.0.0/16.
    fn service_range(&self) -> (std::net::Ipv4Addr, u8);
}

/// A kind with its type erased: what the API server's pipeline works with. Objects are JSON values here.
///
/// One kind can be served in several versions, or in two groups (events). One of them, the hub, is stored; the others
/// are views of it. The pipeline works on stored objects: what comes in goes through [`AnyKind::to_stored`] once, what
/// goes out through [`AnyKind::to_served`]; every other function here takes and gives stored objects.
pub trait AnyKind: Sync {
    /// Names under which the kind is served here.
    fn names(&self) -> &'static Names;
    /// Names of the version that is stored: the same, unless this is a view.
    fn stored(&self) -> &'static Names {
        self.names()
    }
    /// Whether this is a view of objects that are stored in another version.
    fn is_view(&self) -> bool {
        false
    }
    /// An object of the served version as the stored one, with the defaults that only the served version has.
    fn to_stored(&self, object: Value) -> Result<Value, Status> {
        Ok(object)
    }
    /// A stored object as the served version shows it.
    fn to_served(&self, object: Value) -> Result<Value, Status> {
        Ok(object)
    }
    /// Whether nothing of this kind is stored: the API server answers its requests by other means.
    fn is_virtual(&self) -> bool {
        false
    }
    /// Whether a PUT creates an object that is not there.
    fn creates_on_update(&self) -> bool {
        false
    }
    /// Whether a PUT that names no version replaces whatever is there.
    fn updates_unconditionally(&self) -> bool {
        true
    }
    /// What is behind `/proxy`, for kinds with that subresource.
    fn proxied(&self) -> Option<Proxied> {
        None
    }
    /// Whether a deletion that says nothing of dependents lets them go instead of deleting them.
    fn orphans_dependents(&self) -> bool {
        false
    }
    /// What a deletion that orphans because nobody said otherwise is warned of.
    fn orphan_warning(&self) -> Option<&'static str> {
        None
    }
    /// What every request for the kind is warned of, if it is outdated.
    fn deprecation(&self) -> Option<&'static str> {
        None
    }
    /// Whether a deletion is answered with the object.
    fn shows_deleted(&self) -> bool {
        false
    }
    /// Scope.
    fn scope(&self) -> Scope;
    /// Subresources.
    fn subresources(&self) -> &'static [Subresource];
    /// Part of the storage key after `/registry/`, as upstream lays it out (`pods`, `services/specs`, `minions`).
    fn storage(&self) -> &'static str;
    /// Verbs besides which nothing is allowed.
    fn verbs(&self) -> &'static [&'static str];
    /// Columns of the table.
    fn columns(&self) -> &'static [ColumnHead];
    /// Cells of one object's row, in the order of `columns`.
    fn cells(&self, object: &[u8], now: Timestamp) -> Result<Vec<Value>, Status>;
    /// The stored object with what the client left out filled in; nothing else is decided or checked.
    fn defaulted(&self, object: &Value) -> Result<Value, Status> {
        Ok(object.clone())
    }
    /// Defaults, prepares and validates a write; returns the object to store.
    /// `new` already conforms to the schema; its system metadata (uid, creation time, resourceVersion) is set by the caller.
    /// Bumps `metadata.generation` where the kind has one and its spec changed.
    fn process(&self, new: Value, operation: Operation<'_>, cx: &WriteContext<'_>) -> Result<Value, Status>;
    /// How to delete this object, given the client's `gracePeriodSeconds`.
    fn deletion(&self, object: &Value, grace: Option<i64>) -> Deletion;
    /// Changes made when the deletion mark is set (a namespace's phase becomes Terminating).
    fn mark_deleted(&self, object: &mut Value);
    /// Whether the object must stay although it has no finalizers (a namespace with spec.finalizers).
    fn held(&self, object: &Value) -> bool;
    /// Values of the field selectors that the kind supports, besides metadata.name and metadata.namespace.
    fn fields(&self, object: &Value) -> Vec<(&'static str, String)>;
    /// Names of those field selectors.
    fn field_names(&self) -> &'static [&'static str];
    /// What is wrong with another field in a selector, in the words that the kind has upstream.
    fn unknown_field(&self, name: &str) -> String {
        unknown_field(name, self.field_names())
    }
    /// The claims an object holds.
    fn claims(&self, object: &Value) -> Vec<String>;
    /// `autoscaling/v1` Scale of an object, for kinds with that subresource.
    fn scale(&self, object: &Value) -> Option<Value>;
    /// The object with another number of replicas.
    fn set_scale(&self, object: &mut Value, replicas: i64);
    /// How long objects live without being written, if they expire (events: 1 hour).
    fn time_to_live(&self) -> Option<std::time::Duration> {
        None
    }
}

/// What is wrong with a field in a selector: kinds with fields of their own say it in other words than those without.
fn unknown_field(name: &str, known: &[&str]) -> String {
    if known.is_empty() {
        format!("{name:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    } else {
        format!("field label not supported: {name}")
    }
}
