//! Who may do what: roles and bindings.
//!
//! `attributes` says what a request asks for, `policy` has an index of all rules, `rules` matches one, `escalation`
//! keeps people from giving what they do not have. This file follows the store and says no.
//!
//! Invariant: a question is answered by the roles and bindings that were committed before it was asked.

mod attributes;
pub(crate) mod escalation;
mod policy;
pub(crate) mod rules;
pub(crate) mod signers;

use std::sync::{PoisonError, RwLock};

use corten_api::status::Status;
use corten_store::{Revision, RevisionError, Store, Watch};
use futures::FutureExt;
use serde_json::{Map, Value, json};

pub(crate) use attributes::{Attributes, Resource, What};
pub(crate) use policy::{Decision, Policy, RoleRef};

use crate::identity::Identity;
use crate::request::Request;
use crate::route::Target;
use crate::server::Server;

/// Members may do everything, whatever roles and bindings say.
const MASTERS: &str = "system:masters";

/// Answers questions of permission from the store's roles and bindings.
pub(crate) struct Authorizer {
    store: Store,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    policy: Policy,
    /// The policy is that of this revision.
    revision: Revision,
    watches: Vec<Watch>,
}

impl State {
    /// Takes in what was committed since.
    fn catch_up(&mut self, store: &Store) {
        let target = store.snapshot().revision();
        if self.watches.is_empty() || self.follow().is_err() {
            self.reload(store);
        } else {
            self.revision = target;
        }
    }

    fn follow(&mut self) -> Result<(), RevisionError> {
        for watch in &mut self.watches {
            // What is committed is there at once; what is not is not waited for.
            while let Some(events) = watch.next().now_or_never() {
                for event in events?.iter() {
                    self.policy.set(&event.key, event.entry.as_ref().map(|entry| &*entry.value));
                }
            }
        }
        Ok(())
    }

    fn reload(&mut self, store: &Store) {
        let snapshot = store.snapshot();
        self.policy = Policy::default();
        self.revision = snapshot.revision();
        for prefix in policy::PREFIXES {
            for (key, entry) in snapshot.prefix(prefix.as_bytes()) {
                self.policy.set(key, Some(&entry.value));
            }
        }
        let watch = |prefix: &&'static str| store.watch(prefix.as_bytes().into(), self.revision);
        // If the snapshot's history is gone already, the next question loads anew.
        self.watches = policy::PREFIXES.iter().map(watch).collect::<Result<_, _>>().unwrap_or_default();
    }
}

impl Authorizer {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, state: RwLock::default() }
    }

    /// Looks at the policy of now.
    pub(crate) fn policy<R>(&self, look: impl FnOnce(&Policy) -> R) -> R {
        let now = self.store.snapshot().revision();
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if state.revision >= now {
            return look(&state.policy);
        }
        drop(state);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.revision < now {
            state.catch_up(&self.store);
        }
        drop(state);
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner).policy)
    }

    /// Whether a user may do something, and why.
    pub(crate) fn explain(&self, user: &Identity, asked: &Attributes<'_>) -> Decision {
        if user.is_in(MASTERS) {
            return Decision { allowed: true, reason: String::new() };
        }
        self.policy(|policy| policy.decide(user, asked, true))
    }

    /// Whether a user may do something.
    pub(crate) fn allows(&self, user: &Identity, asked: &Attributes<'_>) -> bool {
        user.is_in(MASTERS) || self.policy(|policy| policy.decide(user, asked, false).allowed)
    }

    /// 403 unless the user may do something.
    pub(crate) fn check(&self, user: &Identity, asked: &Attributes<'_>) -> Result<(), Status> {
        if user.is_in(MASTERS) {
            return Ok(());
        }
        let decision = self.policy(|policy| policy.decide(user, asked, false));
        if decision.allowed { Ok(()) } else { Err(refusal(user, asked, &decision.reason)) }
    }
}

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
    let Resource { group, resource, subresource, namespace, name } = resource;
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
