//! Nobody gives what he does not have: checks on writes of roles and bindings.
//!
//! Who has the verb `escalate` on a role may write any rules into it; who has `bind` on a role may give it to anybody.
//! Spec: <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping>

use corten_api::names::Names;
use corten_api::status::Status;
use serde::Deserialize;
use serde_json::{Value, json};

use super::rules::{Rule, missing, quoted};
use super::{Attributes, Authorizer, MASTERS, Resource, RoleRef, forbidden};
use crate::identity::Identity;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Whether a user may write a role or a binding; anything else passes. `old` is the stored object, if there is one.
pub(crate) fn check(
    authorizer: &Authorizer,
    user: &Identity,
    names: &Names,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), Status> {
    if names.group != GROUP || user.is_in(MASTERS) || old.is_some_and(|old| is_release(old, new)) {
        return Ok(());
    }
    let write = Write {
        authorizer,
        user,
        resource: names.plural,
        namespace: new["metadata"]["namespace"].as_str().unwrap_or_default(),
        name: new["metadata"]["name"].as_str().unwrap_or_default(),
    };
    match names.kind {
        "Role" | "ClusterRole" => write.role(old, new),
        "RoleBinding" | "ClusterRoleBinding" => write.binding(new),
        _ => Ok(()),
    }
}

/// Whether a change is of nothing but owners and finalizers: deletion must go on whoever carries it out.
fn is_release(old: &Value, new: &Value) -> bool {
    let rest = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            for field in ["ownerReferences", "finalizers", "managedFields", "resourceVersion"] {
                metadata.shift_remove(field);
            }
        }
        object
    };
    old != new && rest(old) == rest(new)
}

/// A write of a role or a binding.
struct Write<'a> {
    authorizer: &'a Authorizer,
    user: &'a Identity,
    resource: &'a str,
    namespace: &'a str,
    name: &'a str,
}

impl Write<'_> {
    fn role(&self, old: Option<&Value>, new: &Value) -> Result<(), Status> {
        // As upstream, the name is only known once the role is there.
        let name = if old.is_some() { self.name } else { "" };
        if self.may("escalate", self.resource, name) {
            return Ok(());
        }
        self.holds(&rules(new)?)?;
        let aggregates = |role: &Value| !role["aggregationRule"].is_null();
        if aggregates(new) || old.is_some_and(aggregates) {
            // Whatever is labelled so later will be in it.
            let everything = || vec!["*".to_owned()];
            let all = [
                Rule { verbs: everything(), api_groups: everything(), resources: everything(), ..Rule::default() },
                Rule { verbs: everything(), paths: everything(), ..Rule::default() },
            ];
            if !self.missing(&all).0.is_empty() {
                return Err(self.refusal("must have cluster-admin privileges to use the aggregationRule"));
            }
        }
        Ok(())
    }

    fn binding(&self, new: &Value) -> Result<(), Status> {
        let role = RoleRef::deserialize(&new["roleRef"]).map_err(Status::internal)?;
        let resource = if role.kind == "ClusterRole" { "clusterroles" } else { "roles" };
        if self.may("bind", resource, &role.name) {
            return Ok(());
        }
        let namespace = Some(self.namespace).filter(|namespace| !namespace.is_empty());
        let found = self.authorizer.policy(|policy| policy.role(&role, namespace).cloned());
        match found {
            Ok(rules) => self.holds(&rules),
            Err(why) => {
                let mut status = Status::failure(404, "NotFound", why);
                let kind = resource.trim_end_matches('s');
                status.details = Some(json!({"name": role.name, "group": GROUP, "kind": kind}));
                Err(status)
            }
        }
    }

    fn may(&self, verb: &str, resource: &str, name: &str) -> bool {
        let namespace = self.namespace;
        let resource = Resource { group: GROUP, resource, namespace, name: name.into(), ..Resource::default() };
        self.authorizer.allows(self.user, &Attributes::to(verb, resource))
    }

    /// What the user lacks of some rules, and the roles of the user that are not there.
    fn missing(&self, wanted: &[Rule]) -> (Vec<String>, Vec<String>) {
        let (held, unresolved) = self.authorizer.policy(|policy| policy.rules_of(self.user, self.namespace));
        (missing(&held, wanted), unresolved)
    }

    fn holds(&self, wanted: &[Rule]) -> Result<(), Status> {
        let (missing, unresolved) = self.missing(wanted);
        if missing.is_empty() {
            return Ok(());
        }
        let (user, groups) = (&self.user.name, quoted(&self.user.groups));
        let mut why = format!(
            "user {user:?} (groups={groups}) is attempting to grant RBAC permissions not currently held:\n{}",
            missing.join("\n")
        );
        if !unresolved.is_empty() {
            why.push_str(&format!("; resolution errors: [{}]", unresolved.join(", ")));
        }
        Err(self.refusal(&why))
    }

    fn refusal(&self, why: &str) -> Status {
        forbidden(GROUP, self.resource, self.name, why)
    }
}

fn rules(role: &Value) -> Result<Vec<Rule>, Status> {
    match &role["rules"] {
        Value::Null => Ok(Vec::new()),
        rules => Vec::deserialize(rules).map_err(Status::internal),
    }
}
