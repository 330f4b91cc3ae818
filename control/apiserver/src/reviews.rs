//! Reviews: questions of who somebody is and what they may do. The answer is the question with a status.
//!
//! Spec: <https://kubernetes.io/docs/reference/kubernetes-api/authorization-resources/>

use std::collections::BTreeMap;

use corten_api::field::{FieldErrors, Problem};
use corten_api::names::Names;
use corten_api::selector::{Fields, Labels};
use corten_api::status::Status;
use serde_json::{Value, json};

use crate::authenticate::{Bearer, bearer};
use crate::authorize::rules::Rule;
use crate::authorize::{Attributes, KEEPER_LABEL, NODE_FIELD, Node, Resource, What};
use crate::identity::Identity;
use crate::server::Server;

/// Answers a review that conforms to its schema.
pub(crate) fn review(
    server: &Server,
    user: &Identity,
    names: &Names,
    namespace: Option<&str>,
    mut asked: Value,
) -> Result<Value, Status> {
    let status = match names.kind {
        "SelfSubjectReview" => json!({"userInfo": user.to_json()}),
        "TokenReview" => token(server, &asked["spec"])?,
        "SelfSubjectRulesReview" => rules(server, user, &asked["spec"])?,
        "SelfSubjectAccessReview" => {
            validate(names, &asked, None, false)?;
            access(server, user, &asked["spec"])
        }
        "SubjectAccessReview" => {
            validate(names, &asked, None, true)?;
            access(server, &subject(&asked["spec"]), &asked["spec"])
        }
        "LocalSubjectAccessReview" => {
            validate(names, &asked, Some(namespace.unwrap_or_default()), true)?;
            access(server, &subject(&asked["spec"]), &asked["spec"])
        }
        _ => return Err(Status::method_not_allowed()),
    };
    if names.kind == "SelfSubjectReview" {
        asked["metadata"] = json!({"creationTimestamp": crate::objects::time(server.clock().now())});
    }
    asked["status"] = status;
    Ok(asked)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|own| own.as_str().map(str::to_owned)).collect()
}

/// The user whom a review asks about: exactly as named, without groups that real ones are in anyway.
fn subject(spec: &Value) -> Identity {
    let extra: BTreeMap<String, Vec<String>> = spec["extra"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, values)| (key.to_lowercase(), texts(values)))
        .collect();
    Identity {
        name: text(&spec["user"]).to_owned(),
        uid: text(&spec["uid"]).to_owned(),
        groups: texts(&spec["groups"]),
        extra,
    }
}

fn access(server: &Server, user: &Identity, spec: &Value) -> Value {
    let of = &spec["resourceAttributes"];
    let asked = if of.is_object() {
        let resource = Resource {
            group: text(&of["group"]),
            resource: text(&of["resource"]),
            subresource: text(&of["subresource"]),
            namespace: text(&of["namespace"]),
            name: text(&of["name"]).into(),
            node: selected_node(of).map(Into::into),
        };
        Attributes::to(text(&of["verb"]), resource)
    } else {
        let of = &spec["nonResourceAttributes"];
        Attributes { verb: text(&of["verb"]).into(), what: What::Path(text(&of["path"])) }
    };
    let decision = server.authorizer().explain(user, &asked);
    let mut status = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        status["reason"] = decision.reason.into();
    }
    status
}

/// The node whose objects alone are asked about: by the same selectors as in a request for them.
fn selected_node(of: &Value) -> Option<String> {
    let of_volumes = (text(&of["group"]), text(&of["resource"])) == ("", "persistentvolumes");
    let (selector, key) =
        if of_volumes { (&of["labelSelector"], KEEPER_LABEL) } else { (&of["fieldSelector"], NODE_FIELD) };
    // Of two values, the objects may be of either node.
    let demanded = |own: &Value| match own["values"].as_array().map(Vec::as_slice) {
        Some([Value::String(node)]) if own["key"] == key && own["operator"] == "In" => Some(node.clone()),
        _ => None,
    };
    let mut requirements = selector["requirements"].as_array().into_iter().flatten();
    if let Some(node) = requirements.find_map(demanded) {
        return Some(node);
    }
    let raw = text(&selector["rawSelector"]);
    if of_volumes {
        Labels::parse(raw).ok()?.exact(key).map(str::to_owned)
    } else {
        Fields::parse(raw).ok()?.exact(key).map(str::to_owned)
    }
}

/// Wording: pkg/apis/authorization/validation of Kubernetes. `namespace` is that of a local review.
fn validate(names: &Names, asked: &Value, namespace: Option<&str>, of_others: bool) -> Result<(), Status> {
    let mut errs = FieldErrors::default();
    let spec = &asked["spec"];
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let shown = |value: &Value, why: &str| Problem::Invalid(value.to_string(), why.to_owned());
    if resource.is_object() && path.is_object() {
        let why = "cannot be specified in combination with resourceAttributes";
        errs.push("spec.nonResourceAttributes", shown(path, why));
    }
    if !resource.is_object() && !path.is_object() {
        let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errs.push("spec.resourceAttributes", shown(&Value::Null, why));
    }
    if of_others && text(&spec["user"]).is_empty() && texts(&spec["groups"]).is_empty() {
        errs.invalid("spec.user", text(&spec["user"]), "at least one of user or group must be specified");
    }
    // What a client sends along unasked does no harm; a name or labels mean that it expects something to be kept.
    let harmless = ["managedFields", "creationTimestamp", "namespace"];
    let metadata = asked["metadata"].as_object().into_iter().flatten();
    let mut given = metadata.filter(|(key, value)| !value.is_null() && !harmless.contains(&key.as_str()));
    let own_namespace = text(&asked["metadata"]["namespace"]);
    match namespace {
        None if given.next().is_some() || !own_namespace.is_empty() => {
            errs.push("metadata", shown(&asked["metadata"], "must be empty"));
        }
        Some(_) if given.next().is_some() => {
            errs.push("metadata", shown(&asked["metadata"], "must be empty except for namespace"));
        }
        _ => {}
    }
    if let Some(namespace) = namespace {
        if !own_namespace.is_empty() && own_namespace != namespace {
            let why = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(Status::bad_request(why));
        }
        if resource.is_object() && text(&resource["namespace"]) != namespace {
            let why = "must match metadata.namespace";
            errs.invalid("spec.resourceAttributes.namespace", text(&resource["namespace"]), why);
        }
        if path.is_object() {
            errs.push("spec.nonResourceAttributes", shown(path, "disallowed on this kind of request"));
        }
    }
    if errs.is_empty() { Ok(()) } else { Err(Status::invalid(names, "", &errs)) }
}

/// All that a user may do in a namespace.
fn rules(server: &Server, user: &Identity, spec: &Value) -> Result<Value, Status> {
    let namespace = text(&spec["namespace"]);
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let (rules, mut missing) = server.authorizer().policy(|policy| policy.rules_of(user, namespace));
    if Node::of(user).is_some() {
        missing.insert(0, "node authorizer does not support user rule resolution".to_owned());
    }
    let of_resources = |rule: &&Rule| !rule.resources.is_empty();
    let of_paths = |rule: &&Rule| !rule.paths.is_empty();
    let resources: Vec<Value> = rules.iter().filter(of_resources).map(|rule| json!(rule)).collect();
    let paths = rules.iter().filter(of_paths);
    let paths: Vec<Value> = paths.map(|rule| json!({"nonResourceURLs": rule.paths, "verbs": rule.verbs})).collect();
    let mut status = json!({"incomplete": !missing.is_empty(), "nonResourceRules": paths, "resourceRules": resources});
    if !missing.is_empty() {
        status["evaluationError"] = missing.join(", ").into();
    }
    Ok(status)
}

/// Whose a token is.
fn token(server: &Server, spec: &Value) -> Result<Value, Status> {
    let token = text(&spec["token"]);
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    Ok(match bearer(server, token, &texts(&spec["audiences"])) {
        Ok(Bearer { user, audiences }) => {
            json!({"audiences": audiences, "authenticated": true, "user": user.to_json()})
        }
        Err(why) => json!({"error": why, "user": {}}),
    })
}
