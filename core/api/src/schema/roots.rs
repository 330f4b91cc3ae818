//! The kinds that the graph is built from. Adding a kind is adding a line.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::api::{
    admissionregistration, apps, authentication, authorization, autoscaling, batch, certificates, coordination, core,
    discovery, events, flowcontrol, networking, node, policy, rbac, resource, scheduling, storage,
};
use crate::k8s_openapi::kube_aggregator::pkg::apis::apiregistration;
use crate::k8s_openapi::{ListableResource, Resource};
use crate::meta;

fn register(roots: &mut Roots) {
    roots.listed::<admissionregistration::v1::MutatingAdmissionPolicy>();
    roots.listed::<admissionregistration::v1::MutatingAdmissionPolicyBinding>();
    roots.listed::<admissionregistration::v1::MutatingWebhookConfiguration>();
    roots.listed::<admissionregistration::v1::ValidatingAdmissionPolicy>();
    roots.listed::<admissionregistration::v1::ValidatingAdmissionPolicyBinding>();
    roots.listed::<admissionregistration::v1::ValidatingWebhookConfiguration>();
    roots.listed::<apps::v1::ControllerRevision>();
    roots.listed::<apps::v1::DaemonSet>();
    roots.listed::<apps::v1::Deployment>();
    roots.listed::<apps::v1::ReplicaSet>();
    roots.listed::<apps::v1::StatefulSet>();
    roots.listed::<autoscaling::v1::HorizontalPodAutoscaler>();
    roots.listed::<autoscaling::v2::HorizontalPodAutoscaler>();
    roots.listed::<batch::v1::CronJob>();
    roots.listed::<batch::v1::Job>();
    roots.listed::<certificates::v1::CertificateSigningRequest>();
    roots.listed::<coordination::v1::Lease>();
    roots.listed::<core::v1::ComponentStatus>();
    roots.listed::<core::v1::ConfigMap>();
    roots.listed::<core::v1::Endpoints>();
    roots.listed::<core::v1::Event>();
    roots.listed::<core::v1::LimitRange>();
    roots.listed::<core::v1::Namespace>();
    roots.listed::<core::v1::Node>();
    roots.listed::<core::v1::PersistentVolume>();
    roots.listed::<core::v1::PersistentVolumeClaim>();
    roots.listed::<core::v1::Pod>();
    roots.listed::<core::v1::PodTemplate>();
    roots.listed::<core::v1::ReplicationController>();
    roots.listed::<core::v1::ResourceQuota>();
    roots.listed::<core::v1::Secret>();
    roots.listed::<core::v1::Service>();
    roots.listed::<core::v1::ServiceAccount>();
    roots.listed::<discovery::v1::EndpointSlice>();
    roots.listed::<events::v1::Event>();
    roots.listed::<flowcontrol::v1::FlowSchema>();
    roots.listed::<flowcontrol::v1::PriorityLevelConfiguration>();
    roots.listed::<networking::v1::IPAddress>();
    roots.listed::<networking::v1::Ingress>();
    roots.listed::<networking::v1::IngressClass>();
    roots.listed::<networking::v1::NetworkPolicy>();
    roots.listed::<networking::v1::ServiceCIDR>();
    roots.listed::<node::v1::RuntimeClass>();
    roots.listed::<policy::v1::PodDisruptionBudget>();
    roots.listed::<rbac::v1::ClusterRole>();
    roots.listed::<rbac::v1::ClusterRoleBinding>();
    roots.listed::<rbac::v1::Role>();
    roots.listed::<rbac::v1::RoleBinding>();
    roots.listed::<resource::v1::DeviceClass>();
    roots.listed::<resource::v1::ResourceClaim>();
    roots.listed::<resource::v1::ResourceClaimTemplate>();
    roots.listed::<resource::v1::ResourceSlice>();
    roots.listed::<scheduling::v1::PriorityClass>();
    roots.listed::<storage::v1::CSIDriver>();
    roots.listed::<storage::v1::CSINode>();
    roots.listed::<storage::v1::CSIStorageCapacity>();
    roots.listed::<storage::v1::StorageClass>();
    roots.listed::<storage::v1::VolumeAttachment>();
    roots.listed::<storage::v1::VolumeAttributesClass>();
    roots.listed::<apiregistration::v1::APIService>();
    roots.single::<authentication::v1::SelfSubjectReview>();
    roots.single::<authentication::v1::TokenRequest>();
    roots.single::<authentication::v1::TokenReview>();
    roots.single::<authorization::v1::LocalSubjectAccessReview>();
    roots.single::<authorization::v1::SelfSubjectAccessReview>();
    roots.single::<authorization::v1::SelfSubjectRulesReview>();
    roots.single::<authorization::v1::SubjectAccessReview>();
    roots.single::<autoscaling::v1::Scale>();
    roots.single::<core::v1::Binding>();
    roots.single::<policy::v1::Eviction>();
    roots.single::<meta::Status>();
    roots.every_group::<meta::DeleteOptions>("DeleteOptions");
    roots.part::<meta::ListMeta>();
}

/// What only documents speak of.
fn document(roots: &mut Roots) {
    roots.part::<meta::APIGroupList>();
    roots.part::<meta::APIResourceList>();
    roots.part::<meta::APIVersions>();
    roots.part::<meta::Patch>();
    roots.part::<meta::WatchEvent<core::v1::Pod>>();
    roots.part::<crate::k8s_openapi::apimachinery::pkg::version::Info>();
}

/// A kind, and the definition that describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Root {
    /// Group, version, kind. A group of `*` stands for every group.
    pub(super) gvk: (&'static str, &'static str, &'static str),
    /// Such as `io.k8s.api.core.v1.Pod`.
    pub(super) definition: String,
}

/// The definitions as schemars tells them, descriptions and all, with lists added; and what kind each describes.
pub(super) fn definitions() -> (Map<String, Value>, Vec<Root>) {
    let mut roots = Roots { generator: SchemaGenerator::default(), roots: Vec::new(), lists: Vec::new() };
    register(&mut roots);
    let mut definitions = roots.generator.take_definitions(false);
    definitions.extend(roots.lists);
    (definitions, roots.roots)
}

/// All definitions, with those that only documents speak of.
pub(super) fn documented() -> Map<String, Value> {
    let mut roots = Roots { generator: SchemaGenerator::default(), roots: Vec::new(), lists: Vec::new() };
    register(&mut roots);
    document(&mut roots);
    let mut definitions = roots.generator.take_definitions(false);
    definitions.extend(roots.lists);
    definitions
}

struct Roots {
    generator: SchemaGenerator,
    roots: Vec<Root>,
    lists: Vec<(String, Value)>,
}

impl Roots {
    /// A kind and its list kind.
    fn listed<T: JsonSchema + ListableResource>(&mut self) {
        self.single::<T>();
        let item = T::schema_name();
        let definition = format!("{}.{}", item.rsplit_once('.').map_or("", |(package, _)| package), T::LIST_KIND);
        self.lists.push((definition.clone(), list_definition(T::LIST_KIND, T::KIND, &item)));
        self.roots.push(Root { gvk: (T::GROUP, T::VERSION, T::LIST_KIND), definition });
    }

    /// A kind that is never listed.
    fn single<T: JsonSchema + Resource>(&mut self) {
        self.part::<T>();
        self.roots.push(Root { gvk: (T::GROUP, T::VERSION, T::KIND), definition: T::schema_name().into_owned() });
    }

    /// A kind of v1 that every group accepts.
    fn every_group<T: JsonSchema>(&mut self, kind: &'static str) {
        self.part::<T>();
        self.roots.push(Root { gvk: ("*", "v1", kind), definition: T::schema_name().into_owned() });
    }

    /// A type that is no kind.
    fn part<T: JsonSchema>(&mut self) {
        self.generator.subschema_for::<T>();
    }
}

/// k8s-openapi has one generic list without schema.
fn list_definition(list_kind: &str, kind: &str, item: &str) -> Value {
    json!({
        "description": format!("{list_kind} is a list of {kind} objects."),
        "type": "object",
        "properties": {
            "apiVersion": {
                "description": "The version of the schema that this object is written in, with its group.",
                "type": "string",
            },
            "items": {
                "description": format!("The {kind} objects."),
                "type": "array",
                "items": {"$ref": format!("#/$defs/{item}")},
            },
            "kind": {
                "description": "The kind of this object, in CamelCase.",
                "type": "string",
            },
            "metadata": {
                "description": "Standard metadata of a list.",
                "$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta",
            },
        },
        "required": ["items"],
    })
}
