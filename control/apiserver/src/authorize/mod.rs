//! Who may do what: roles and bindings.
//!
//! `attributes` says what a request asks for, `policy` has an index of all rules, `rules` matches one, `node` gives nodes
//! what their pods need, `escalation` keeps people from giving what they do not have. `following` keeps the indexes true.
//!
//! Invariant: a question is answered by what was committed before it was asked.

mod attributes;
pub(crate) mod escalation;
mod following;
mod node;
mod policy;
pub(crate) mod rules;
pub(crate) mod signers;

use std::sync::LazyLock;

use corten_api::status::Status;
use corten_store::Store;
use serde_json::{Map, Value, json};

pub(crate) use attributes::{Attributes, NODE_FIELD, Resource, What};
pub(crate) use node::{MIRROR, Node, References};
pub(crate) use policy::{Decision, Policy, RoleRef};

use crate::identity::Identity;
use crate::request::Request;
use crate::route::Target;
use crate::server::Server;
use following::Following;
use node::{NodeRights, PodsOfNodes};

/// Members may do everything, whatever roles and bindings say.
const MASTERS: &str = "system:masters";

/// Answers questions of permission from the store's roles and bindings, and nodes' from where pods are.
pub(crate) struct Authorizer {
    store: Store,
    policy: Following<Policy>,
    pods: Following<PodsOfNodes>,
}

impl Authorizer {
    pub(crate) fn new(store: Store) -> Self {
        Self { policy: Following::new(store.clone()), pods: Following::new(store.clone()), store }
    }

    /// Looks at the policy of now.
    pub(crate) fn policy<R>(&self, look: impl FnOnce(&Policy) -> R) -> R {
        self.policy.look(look)
    }

    /// Whether a user may do something, and why.
    pub(crate) fn explain(&self, user: &Identity, asked: &Attributes<'_>) -> Decision {
        self.decide(user, asked, true)
    }

    /// Whether a user may do something.
    pub(crate) fn allows(&self, user: &Identity, asked: &Attributes<'_>) -> bool {
        self.decide(user, asked, false).allowed
    }

    /// 403 unless the user may do something.
    pub(crate) fn check(&self, user: &Identity, asked: &Attributes<'_>) -> Result<(), Status> {
        let decision = self.decide(user, asked, false);
        if decision.allowed { Ok(()) } else { Err(refusal(user, asked, &decision.reason)) }
    }

    /// What may be done to a node's objects is for `node` to say; if it does not say yes, policy may.
    fn decide(&self, user: &Identity, asked: &Attributes<'_>, explain: bool) -> Decision {
        if user.is_in(MASTERS) {
            return Decision { allowed: true, reason: String::new() };
        }
        let of_node = match Node::of(user) {
            None => String::new(),
            Some(node) => match self.rights_of(&node).decide(asked, &NODE_RULES) {
                Ok(()) => return Decision { allowed: true, reason: String::new() },
                Err(why) => why,
            },
        };
        let mut decision = self.policy(|policy| policy.decide(user, asked, explain));
        if !decision.allowed && !of_node.is_empty() {
            decision.reason =
                [of_node, decision.reason].into_iter().filter(|own| !own.is_empty()).collect::<Vec<_>>().join("\n");
        }
        decision
    }

    fn rights_of<'a>(&'a self, node: &'a Node<'_>) -> NodeRights<'a> {
        NodeRights { node, pods: &self.pods, store: &self.store }
    }
}

/// What all nodes may do alike, wherever pods are.
static NODE_RULES: LazyLock<Vec<rules::Rule>> = LazyLock::new(crate::policy::of_nodes);

/// Whether the user of a request may do what it asks for; whether anything is served there is not asked yet.
pub(crate) fn request(server: &Server, request: &Request) -> Result<(), Status> {
    let asked = Attributes::of(&request.method, &request.path, &request.query);
    server.authorizer().check(&request.user, &asked)?;
    match &asked.what {
        // To open a stream into a pod is to do something there, by whatever method it is opened.
        What::Resource(resource) if asked.verb == "get" && opens_stream(resource) => {
            server.authorizer().check(&request.user, &Attributes::to("create", resource.clone()))
        }
        _ => Ok(()),
    }
}

/// Whether a user whose PUT did not find its object may create it.
pub(crate) fn creation(server: &Server, user: &Identity, target: &Target) -> Result<(), Status> {
    verb(server, user, "create", target)
}

/// Whether a user may do something more to an object than what the request is by its method.
pub(crate) fn verb(server: &Server, user: &Identity, verb: &'static str, target: &Target) -> Result<(), Status> {
    let names = target.kind.names();
    let resource = Resource {
        group: names.group,
        resource: names.plural,
        subresource: "",
        namespace: target.namespace.as_deref().unwrap_or_default(),
        name: target.name.as_deref().unwrap_or_default().into(),
        node: None,
    };
    server.authorizer().check(user, &Attributes::to(verb, resource))
}

fn opens_stream(resource: &Resource<'_>) -> bool {
    resource.group.is_empty()
        && resource.resource == "pods"
        && ["attach", "exec", "portforward"].contains(&resource.subresource)
}

/// The 403 in upstream's words.
fn refusal(user: &Identity, asked: &Attributes<'_>, reason: &str) -> Status {
    let (verb, user) = (&asked.verb, &user.name);
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let resource = match &asked.what {
        What::Path(path) => {
            let message = format!("forbidden: User {user:?} cannot {verb} path {path:?}{reason}");
            let mut status = Status::failure(403, "Forbidden", message);
            status.details = Some(json!({}));
            return status;
        }
        What::Resource(resource) => resource,
    };
    let Resource { group, resource, subresource, namespace, name, .. } = resource;
    let place = match *namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let full = if subresource.is_empty() { (*resource).to_owned() } else { format!("{resource}/{subresource}") };
    let why = format!("User {user:?} cannot {verb} resource {full:?} in API group {group:?} {place}{reason}");
    forbidden(group, resource, name, &why)
}

/// A 403 about a resource that need not be served.
pub(crate) fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Status {
    let qualified = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
    let object = if name.is_empty() { qualified } else { format!("{qualified} {name:?}") };
    let mut status = Status::failure(403, "Forbidden", format!("{object} is forbidden: {why}"));
    let given = [("name", name), ("group", group), ("kind", resource)];
    let given = given.into_iter().filter(|(_, value)| !value.is_empty());
    status.details =
        Some(Value::Object(given.map(|(key, value)| (key.to_owned(), value.into())).collect::<Map<_, _>>()));
    status
}
