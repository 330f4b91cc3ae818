//! Kinds of which nothing is stored: questions to the API server, and orders.
//!
//! Declared here, so that routes, discovery and OpenAPI know them; answered by `virtual_kinds` of control/apiserver.

use corten_api::names::{Names, Scope};
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::{at, plain};
use crate::table::{NAME, column};
use crate::{AnyKind, ColumnHead, Deletion, Operation, Subresource, WriteContext};

/// The declaration of a kind that is not stored.
pub struct VirtualKind {
    names: &'static Names,
    scope: Scope,
    verbs: &'static [&'static str],
    columns: &'static [ColumnHead],
    cells: fn(&Value) -> Vec<Value>,
    deprecation: Option<&'static str>,
}

/// Names of a kind that is only asked for, and what it is called besides.
const fn names(group: &'static str, kind: &'static str, plural: &'static str, singular: &'static str) -> Names {
    Names { group, version: "v1", kind, plural, singular, short: &[], categories: &[] }
}

/// A kind that can be created, which is to ask or to order, and nothing else.
const fn order(names: &'static Names, scope: Scope) -> VirtualKind {
    VirtualKind {
        names,
        scope,
        verbs: &["create"],
        columns: &[NAME],
        cells: |object| vec![object["metadata"]["name"].clone()],
        deprecation: None,
    }
}

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

pub(crate) static BINDINGS: VirtualKind =
    order(&const { names("", "Binding", "bindings", "binding") }, Scope::Namespaced);

pub(crate) static COMPONENT_STATUSES: VirtualKind = VirtualKind {
    names: &Names { short: &["cs"], ..names("", "ComponentStatus", "componentstatuses", "componentstatus") },
    scope: Scope::Cluster,
    verbs: &["get", "list"],
    columns: &[NAME, column("Status"), column("Message"), column("Error")],
    cells: component_status,
    deprecation: Some("v1 ComponentStatus is deprecated in v1.19+"),
};

pub(crate) static TOKEN_REVIEWS: VirtualKind =
    order(&const { names(AUTHENTICATION, "TokenReview", "tokenreviews", "tokenreview") }, Scope::Cluster);
pub(crate) static SELF_SUBJECT_REVIEWS: VirtualKind = order(
    &const { names(AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews", "selfsubjectreview") },
    Scope::Cluster,
);
pub(crate) static SUBJECT_ACCESS_REVIEWS: VirtualKind = order(
    &const { names(AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews", "subjectaccessreview") },
    Scope::Cluster,
);
pub(crate) static SELF_SUBJECT_ACCESS_REVIEWS: VirtualKind = order(
    &const { names(AUTHORIZATION, "SelfSubjectAccessReview", "selfsubjectaccessreviews", "selfsubjectaccessreview") },
    Scope::Cluster,
);
pub(crate) static SELF_SUBJECT_RULES_REVIEWS: VirtualKind = order(
    &const { names(AUTHORIZATION, "SelfSubjectRulesReview", "selfsubjectrulesreviews", "selfsubjectrulesreview") },
    Scope::Cluster,
);
pub(crate) static LOCAL_SUBJECT_ACCESS_REVIEWS: VirtualKind = order(
    &const { names(AUTHORIZATION, "LocalSubjectAccessReview", "localsubjectaccessreviews", "localsubjectaccessreview") },
    Scope::Namespaced,
);

fn component_status(object: &Value) -> Vec<Value> {
    let conditions = object["conditions"].as_array();
    let healthy = conditions.into_iter().flatten().find(|condition| condition["type"] == "Healthy");
    let healthy = healthy.unwrap_or(&Value::Null);
    let status = match healthy["status"].as_str() {
        Some("True") => "Healthy",
        Some("False") => "Unhealthy",
        _ => "Unknown",
    };
    let text = |field: &str| plain(at(healthy, field)).into();
    vec![object["metadata"]["name"].clone(), json!(status), text("message"), text("error")]
}

impl AnyKind for VirtualKind {
    fn names(&self) -> &'static Names {
        self.names
    }

    fn deprecation(&self) -> Option<&'static str> {
        self.deprecation
    }

    fn is_virtual(&self) -> bool {
        true
    }

    fn scope(&self) -> Scope {
        self.scope
    }

    fn subresources(&self) -> &'static [Subresource] {
        &[]
    }

    fn storage(&self) -> &'static str {
        ""
    }

    fn verbs(&self) -> &'static [&'static str] {
        self.verbs
    }

    fn columns(&self) -> &'static [ColumnHead] {
        self.columns
    }

    fn cells(&self, object: &[u8], _now: Timestamp) -> Result<Vec<Value>, Status> {
        Ok((self.cells)(&serde_json::from_slice(object).map_err(Status::internal)?))
    }

    fn process(&self, _new: Value, _operation: Operation<'_>, _cx: &WriteContext<'_>) -> Result<Value, Status> {
        Err(Status::method_not_allowed())
    }

    fn deletion(&self, _object: &Value, _grace: Option<i64>) -> Deletion {
        Deletion::Immediate
    }

    fn mark_deleted(&self, _object: &mut Value) {}

    fn held(&self, _object: &Value) -> bool {
        false
    }

    fn fields(&self, _object: &Value) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn field_names(&self) -> &'static [&'static str] {
        &[]
    }

    fn claims(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    fn scale(&self, _object: &Value) -> Option<Value> {
        None
    }

    fn set_scale(&self, _object: &mut Value, _replicas: i64) {}
}
