//! Operations: one method on one path, as a document describes it.

use serde_json::{Map, Value, json};

use super::definitions::Form;
use super::parameters::{self, Parameter};

/// What clients may send and get.
const ANYTHING: &[&str] = &["*/*"];
const OBJECTS: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const LISTS: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
const TEXT: &[&str] = &["text/plain", "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const JSON: &[&str] = &["application/json"];
const KEY_SET: &[&str] = &["application/jwk-set+json"];

pub(super) const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
pub(super) const VERSION: &str = "io.k8s.apimachinery.pkg.version.Info";
pub(super) const WATCH_EVENT: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent";
pub(super) const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

/// Tag of the keys that sign tokens.
pub(super) const KEYS: &str = "openid";

/// Group, version, kind.
pub(super) type Gvk = (&'static str, &'static str, &'static str);

/// What an operation answers with.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// An object of this definition.
    Object(String),
    /// Text or a stream.
    Text,
}

/// One method on one path.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    /// `x-kubernetes-action`; empty for what is no object.
    pub(super) action: &'static str,
    pub(super) id: String,
    pub(super) tag: String,
    pub(super) description: String,
    pub(super) parameters: Vec<Parameter>,
    /// Definition of the body, and whether there must be one.
    pub(super) body: Option<(String, bool)>,
    pub(super) answer: Answer,
    pub(super) codes: &'static [(&'static str, &'static str)],
    pub(super) gvk: Option<Gvk>,
}

pub(super) const OK: &[(&str, &str)] = &[("200", "OK")];
pub(super) const CREATED: &[(&str, &str)] = &[("200", "OK"), ("201", "Created"), ("202", "Accepted")];
pub(super) const REPLACED: &[(&str, &str)] = &[("200", "OK"), ("201", "Created")];
pub(super) const DELETED: &[(&str, &str)] = &[("200", "OK"), ("202", "Accepted")];

impl Operation {
    fn consumes(&self) -> &'static [&'static str] {
        match self.action {
            "patch" => PATCHES,
            "" => self.document(),
            _ => ANYTHING,
        }
    }

    fn produces(&self) -> &'static [&'static str] {
        match (self.action, &self.answer) {
            ("", Answer::Text) if self.tag == KEYS => KEY_SET,
            ("", Answer::Text) => JSON,
            ("", Answer::Object(_)) => self.document(),
            ("connect", _) => ANYTHING,
            (_, Answer::Text) => TEXT,
            ("list" | "watch" | "watchlist", _) => LISTS,
            _ => OBJECTS,
        }
    }

    /// Of what is no object: discovery is said in every form, the version in one, and nothing is sent for text.
    fn document(&self) -> &'static [&'static str] {
        match &self.answer {
            Answer::Text => &[],
            Answer::Object(definition) if definition == VERSION => JSON,
            Answer::Object(_) => OBJECTS,
        }
    }

    fn schema(&self, form: Form) -> Value {
        match &self.answer {
            Answer::Object(definition) => form.reference(definition),
            Answer::Text => json!({"type": "string"}),
        }
    }

    /// The operation without the parameters that its path has already.
    fn describe(&self, common: &[Parameter], form: Form) -> Value {
        let own: Vec<Parameter> = self.parameters.iter().filter(|one| !common.contains(one)).copied().collect();
        let mut parameters = parameters::list(&own, form);
        let mut operation = Map::new();
        operation.insert("description".to_owned(), self.description.as_str().into());
        operation.insert("operationId".to_owned(), self.id.as_str().into());
        operation.insert("tags".to_owned(), json!([self.tag]));
        let mut responses = Map::new();
        for (code, meaning) in self.codes {
            let response = match form {
                Form::V2 => json!({"description": meaning, "schema": self.schema(form)}),
                Form::V3 => json!({"description": meaning, "content": content(self.produces(), &self.schema(form))}),
            };
            responses.insert((*code).to_owned(), response);
        }
        responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        match form {
            Form::V2 => {
                if let Some((definition, required)) = &self.body {
                    let mut body = json!({"name": "body", "in": "body", "schema": form.reference(definition)});
                    if *required {
                        body["required"] = true.into();
                    }
                    parameters.insert(0, body);
                }
                if !self.consumes().is_empty() {
                    operation.insert("consumes".to_owned(), self.consumes().into());
                }
                operation.insert("produces".to_owned(), self.produces().into());
                operation.insert("schemes".to_owned(), json!(["https"]));
            }
            Form::V3 => {
                if let Some((definition, required)) = &self.body {
                    let mut body = json!({"content": content(self.consumes(), &form.reference(definition))});
                    if *required {
                        body["required"] = true.into();
                    }
                    operation.insert("requestBody".to_owned(), body);
                }
            }
        }
        if !parameters.is_empty() {
            operation.insert("parameters".to_owned(), parameters.into());
        }
        operation.insert("responses".to_owned(), responses.into());
        if !self.action.is_empty() {
            operation.insert("x-kubernetes-action".to_owned(), self.action.into());
        }
        if let Some((group, version, kind)) = self.gvk {
            let gvk = json!({"group": group, "kind": kind, "version": version});
            operation.insert("x-kubernetes-group-version-kind".to_owned(), gvk);
        }
        operation.into()
    }
}

fn content(kinds: &[&str], schema: &Value) -> Value {
    kinds.iter().map(|kind| ((*kind).to_owned(), json!({"schema": schema}))).collect::<Map<_, _>>().into()
}

/// A path with its operations; parameters that all of them have are the path's.
pub(super) fn item(operations: &[Operation], form: Form) -> Value {
    let Some((first, rest)) = operations.split_first() else { return json!({}) };
    let everywhere = |one: &&Parameter| rest.iter().all(|operation| operation.parameters.contains(one));
    let common: Vec<Parameter> = first.parameters.iter().filter(everywhere).copied().collect();
    let mut item: Map<String, Value> =
        operations.iter().map(|operation| (operation.method.to_owned(), operation.describe(&common, form))).collect();
    if !common.is_empty() {
        item.insert("parameters".to_owned(), parameters::list(&common, form).into());
    }
    item.into()
}
