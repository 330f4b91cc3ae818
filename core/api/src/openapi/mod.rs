//! OpenAPI documents, made from schemars' definitions, the fact table and the list of what is served.
//!
//! `kubectl` reads v3 (explain, validation by the server) and, up to 1.26, v2 in gnostic's protobuf form.
//! Specs: OpenAPI 2.0 and 3.0; extensions as k8s.io/kube-openapi writes them.

mod definitions;
mod gnostic;
mod operations;
mod parameters;
mod paths;
mod surroundings;

use serde_json::{Map, Value, json};

use crate::names::{Names, Scope};
use definitions::{Form, Library, references};
use operations::{DELETE_OPTIONS, Gvk, PATCH, STATUS, WATCH_EVENT};

/// A kind as it is served.
#[derive(Clone, Debug)]
pub struct Served {
    /// Its names.
    pub names: &'static Names,
    /// Kind of its lists.
    pub list_kind: &'static str,
    /// Its scope.
    pub scope: Scope,
    /// Its verbs.
    pub verbs: &'static [&'static str],
    /// Whether a deletion is answered with the object.
    pub shows_deleted: bool,
    /// Its subresources.
    pub subresources: &'static [ServedPart],
}

/// A subresource as it is served.
#[derive(Clone, Copy, Debug)]
pub struct ServedPart {
    /// Its name in paths.
    pub name: &'static str,
    /// The group, version and kind that it speaks.
    pub gvk: (&'static str, &'static str, &'static str),
    /// Its verbs.
    pub verbs: &'static [&'static str],
}

/// Makes documents. Holds megabytes: make one, use it, drop it.
pub struct Documents<'a> {
    served: &'a [Served],
    group_versions: &'a [(&'static str, &'static str)],
    library: Library,
    version: &'a str,
}

impl<'a> Documents<'a> {
    /// Reads all definitions. `version` is the server's, such as `v1.36.0`.
    #[must_use]
    pub fn new(served: &'a [Served], group_versions: &'a [(&'static str, &'static str)], version: &'a str) -> Self {
        Self { served, group_versions, library: Library::read(group_versions.to_vec()), version }
    }

    /// Names of the v3 documents: the paths that they describe what is below of, such as `apis/apps/v1`.
    #[must_use]
    pub fn v3_names(&self) -> Vec<String> {
        surroundings::all(self.group_versions, Form::V3).into_keys().collect()
    }

    /// One v3 document.
    #[must_use]
    pub fn v3(&self, name: &str) -> Value {
        let (mut paths, mut roots) = (Map::new(), Vec::new());
        if let Some((path, item)) = surroundings::all(self.group_versions, Form::V3).remove(name) {
            references(&item, &mut roots);
            paths.insert(path, item);
        }
        let own = |kind: &&Served| match kind.names.group {
            "" => name == format!("api/{}", kind.names.version),
            group => name == format!("apis/{group}/{}", kind.names.version),
        };
        for kind in self.served.iter().filter(own) {
            paths::add(&mut paths, kind, Form::V3, &|gvk| self.library.find(gvk));
            roots.extend(self.roots(kind));
        }
        paths.sort_keys();
        json!({
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": self.version},
            "paths": paths,
            "components": {
                "schemas": self.library.closure(roots, Form::V3),
                "securitySchemes": {"BearerToken": {
                    "type": "apiKey", "description": "A bearer token.", "name": "authorization", "in": "header",
                }},
            },
            "security": [{"BearerToken": []}],
        })
    }

    /// The v2 document of everything.
    #[must_use]
    pub fn v2(&self) -> Value {
        let (mut paths, mut roots) = (Map::new(), Vec::new());
        paths.extend(surroundings::all(self.group_versions, Form::V2).into_values());
        roots.extend(surroundings::DEFINITIONS.map(surroundings::definition));
        for kind in self.served {
            paths::add(&mut paths, kind, Form::V2, &|gvk| self.library.find(gvk));
            roots.extend(self.roots(kind));
        }
        paths.sort_keys();
        json!({
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": self.version},
            "paths": paths,
            "definitions": self.library.closure(roots, Form::V2),
            "parameters": parameters::shared(),
            "security": [{"BearerToken": []}],
            "securityDefinitions": {"BearerToken": {
                "type": "apiKey", "description": "A bearer token.", "name": "authorization", "in": "header",
            }},
        })
    }

    /// The definitions that a kind's operations name.
    fn roots(&self, kind: &Served) -> Vec<String> {
        let names = kind.names;
        let own = [names.kind, kind.list_kind].map(|kind| (names.group, names.version, kind));
        let parts = kind.subresources.iter().map(|part| part.gvk);
        let gvks: Vec<Gvk> = own.into_iter().chain(parts).collect();
        let common = [DELETE_OPTIONS, PATCH, STATUS, WATCH_EVENT].map(str::to_owned);
        gvks.into_iter().map(|gvk| self.library.find(gvk)).chain(common).collect()
    }
}

/// A v2 document in gnostic's protobuf form.
#[must_use]
pub fn protobuf(v2: &Value) -> Vec<u8> {
    gnostic::document(v2)
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
        list_kind: "DeploymentList",
        scope: Scope::Namespaced,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        shows_deleted: false,
        subresources: &[
            ServedPart { name: "status", gvk: ("apps", "v1", "Deployment"), verbs: &["get", "patch", "update"] },
            ServedPart { name: "scale", gvk: ("autoscaling", "v1", "Scale"), verbs: &["get", "patch", "update"] },
        ],
    }];
    const GROUPS: &[(&str, &str)] = &[("apps", "v1")];

    #[test]
    fn v3_describes_paths_and_everything_they_refer_to() {
        let documents = Documents::new(SERVED, GROUPS, "v1.36.0");
        assert!(documents.v3_names().contains(&"apis/apps/v1".to_owned()), "{:?}", documents.v3_names());
        let document = documents.v3("apis/apps/v1");
        let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
        assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
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
        assert!(!text.contains("#/parameters/"), "v3 says parameters on the spot");
    }

    #[test]
    fn a_v3_document_of_discovery_has_what_it_answers() {
        let document = Documents::new(SERVED, GROUPS, "v1.36.0").v3("apis/apps");
        assert!(document["components"]["schemas"]["io.k8s.apimachinery.pkg.apis.meta.v1.APIGroup"].is_object());
        assert!(document["paths"]["/apis/apps/"]["get"].is_object());
    }

    #[test]
    fn v2_has_a_protobuf_form() {
        let document = Documents::new(SERVED, GROUPS, "v1.36.0").v2();
        assert!(document["definitions"]["io.k8s.api.apps.v1.Deployment"].is_object());
        let bytes = protobuf(&document);
        assert!(bytes.len() > 10_000 && bytes.starts_with(b"\x0a\x032.0"));
    }
}
