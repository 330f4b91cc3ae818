//! OpenAPI documents, made from schemars' definitions, the fact table and the list of what is served.
//!
//! `kubectl` reads v3 (explain, validation by the server) and, up to 1.26, v2 in gnostic's protobuf form.
//! Specs: OpenAPI 2.0 and 3.0; extensions as k8s.io/kube-openapi writes them.

mod definitions;
mod gnostic;
mod paths;

use serde_json::{Map, Value, json};

use crate::names::{Names, Scope};
use definitions::{Form, Library};

/// A kind as it is served.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// Its names.
    pub names: &'static Names,
    /// Its scope.
    pub scope: Scope,
    /// Its verbs.
    pub verbs: &'static [&'static str],
    /// Its subresources that are read and written like objects: name, and the (group, version, kind) they speak.
    pub subresources: &'static [(&'static str, (&'static str, &'static str, &'static str))],
}

/// Makes documents. Holds megabytes: make one, use it, drop it.
pub struct Documents<'a> {
    served: &'a [Served],
    library: Library,
    version: &'a str,
}

impl<'a> Documents<'a> {
    /// Reads all definitions. `version` is the server's, such as `v1.36.0`.
    #[must_use]
    pub fn new(served: &'a [Served], version: &'a str) -> Self {
        Self { served, library: Library::read(), version }
    }

    /// The v3 document of one group and version.
    #[must_use]
    pub fn v3(&self, group: &str, version: &str) -> Value {
        let of_group = self.served.iter().filter(|kind| kind.names.group == group && kind.names.version == version);
        let mut paths = Map::new();
        let mut wanted = Vec::new();
        for kind in of_group {
            paths::add(&mut paths, kind, Form::V3);
            wanted.extend(kinds_of(kind));
        }
        let schemas = self.library.closure(&wanted, Form::V3);
        json!({
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": self.version},
            "paths": paths,
            "components": {"schemas": schemas},
        })
    }

    /// The v2 document of everything.
    #[must_use]
    pub fn v2(&self) -> Value {
        let mut paths = Map::new();
        let mut wanted = Vec::new();
        for kind in self.served {
            paths::add(&mut paths, kind, Form::V2);
            wanted.extend(kinds_of(kind));
        }
        json!({
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": self.version},
            "paths": paths,
            "definitions": self.library.closure(&wanted, Form::V2),
        })
    }
}

/// A v2 document in gnostic's protobuf form.
#[must_use]
pub fn protobuf(v2: &Value) -> Vec<u8> {
    gnostic::document(v2)
}

/// The (group, version, kind)s that a served kind's documents must describe.
fn kinds_of(kind: &Served) -> Vec<(String, String, String)> {
    let names = kind.names;
    let own = [names.kind.to_owned(), format!("{}List", names.kind)];
    let own = own.map(|kind| (names.group.to_owned(), names.version.to_owned(), kind));
    let common = ["DeleteOptions", "Status"].map(|kind| (String::new(), "v1".to_owned(), kind.to_owned()));
    let others = kind
        .subresources
        .iter()
        .map(|(_, (group, version, kind))| ((*group).to_owned(), (*version).to_owned(), (*kind).to_owned()));
    own.into_iter().chain(common).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    static DEPLOYMENTS: Names = Names {
        group: "apps",
        version: "v1",
        kind: "Deployment",
        plural: "deployments",
        singular: "deployment",
        short: &[],
        categories: &[],
    };

    const SERVED: &[Served] = &[Served {
        names: &DEPLOYMENTS,
        scope: Scope::Namespaced,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        subresources: &[("status", ("apps", "v1", "Deployment")), ("scale", ("autoscaling", "v1", "Scale"))],
    }];

    #[test]
    fn v3_describes_paths_and_everything_they_refer_to() {
        let document = Documents::new(SERVED, "v1.36.0").v3("apps", "v1");
        let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
        let names: Vec<&str> =
            patch["parameters"].as_array().expect("a list").iter().filter_map(|p| p["name"].as_str()).collect();
        assert!(names.contains(&"fieldValidation"), "{names:?}");
        let schemas = document["components"]["schemas"].as_object().expect("schemas");
        let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"][0]["group"], "apps");
        assert!(schemas.contains_key("io.k8s.api.autoscaling.v1.Scale"));
        assert!(!schemas.contains_key("io.k8s.api.core.v1.Node"), "only what is referred to");
        let text = document.to_string();
        assert!(!text.contains("$defs"), "all references are resolved");
    }

    #[test]
    fn v2_has_a_protobuf_form() {
        let document = Documents::new(SERVED, "v1.36.0").v2();
        assert!(document["definitions"]["io.k8s.api.apps.v1.Deployment"].is_object());
        let bytes = protobuf(&document);
        assert!(bytes.len() > 10_000 && bytes.starts_with(b"\x0a\x032.0"));
    }
}
