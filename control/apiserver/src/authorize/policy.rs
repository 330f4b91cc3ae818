//! Roles and bindings as an index: from a user to the rules that hold for it.
//!
//! Invariant: a pure function of the stored roles and bindings, whatever the order in which they came in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use corten_store::Entry;
use serde::Deserialize;

use super::attributes::{Attributes, What};
use super::following::Index;
use super::rules::Rule;
use crate::identity::{Identity, account_name};

/// What store keys of roles begin with, and of bindings.
const CLUSTER_ROLES: &str = "/registry/clusterroles/";
const ROLES: &str = "/registry/roles/";
const CLUSTER_BINDINGS: &str = "/registry/clusterrolebindings/";
const BINDINGS: &str = "/registry/rolebindings/";

/// Who may what. Roles and bindings are known by `name` or `namespace/name`.
#[derive(Default)]
pub(crate) struct Policy {
    cluster_roles: HashMap<String, Arc<[Rule]>>,
    roles: HashMap<String, Arc<[Rule]>>,
    cluster_bindings: HashMap<String, Binding>,
    bindings: HashMap<String, Binding>,
    users: HashMap<String, Bound>,
    groups: HashMap<String, Bound>,
}

/// Names of the bindings that a subject is in.
#[derive(Default)]
struct Bound {
    cluster: BTreeSet<String>,
    /// By namespace.
    namespaced: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Deserialize)]
struct Role {
    #[serde(default)]
    rules: Option<Vec<Rule>>,
}

/// A binding as it is stored.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Binding {
    pub(crate) role_ref: RoleRef,
    #[serde(default)]
    subjects: Option<Vec<Subject>>,
}

/// The role that a binding gives.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RoleRef {
    pub(crate) kind: String,
    pub(crate) name: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Subject {
    kind: String,
    name: String,
    #[serde(default)]
    namespace: Option<String>,
}

/// A rule that holds for a user, and why.
pub(crate) struct Grant<'a> {
    pub(crate) rule: &'a Rule,
    /// Name of the binding, and its namespace.
    binding: (&'a str, Option<&'a str>),
    given: &'a Binding,
    user: &'a Identity,
}

/// What policy says to a question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    /// Why, for people; may be empty.
    pub(crate) reason: String,
}

impl Subject {
    /// The name of the user that a service account or a user is.
    fn user(&self, namespace: Option<&str>) -> Option<String> {
        match self.kind.as_str() {
            "User" => Some(self.name.clone()),
            "ServiceAccount" => {
                let namespace = self.namespace.as_deref().filter(|own| !own.is_empty()).or(namespace)?;
                Some(account_name(namespace, &self.name))
            }
            _ => None,
        }
    }

    fn is(&self, user: &Identity, namespace: Option<&str>) -> bool {
        match self.kind.as_str() {
            "Group" => user.is_in(&self.name),
            _ => self.user(namespace).is_some_and(|own| own == user.name),
        }
    }

    fn show(&self, namespace: Option<&str>) -> String {
        let namespace = self.namespace.as_deref().filter(|own| !own.is_empty()).or(namespace).unwrap_or_default();
        match self.kind.as_str() {
            "ServiceAccount" => format!("ServiceAccount {:?}", format!("{}/{namespace}", self.name)),
            kind => format!("{kind} {:?}", self.name),
        }
    }
}

impl Grant<'_> {
    /// Why the rule holds.
    fn show(&self) -> String {
        let (name, namespace) = self.binding;
        let subjects = self.given.subjects.iter().flatten();
        let subject = subjects.filter(|own| own.is(self.user, namespace)).map(|own| own.show(namespace)).next();
        let binding = match namespace {
            None => format!("ClusterRoleBinding {name:?}"),
            Some(namespace) => format!("RoleBinding {:?}", format!("{name}/{namespace}")),
        };
        let RoleRef { kind, name } = &self.given.role_ref;
        format!("RBAC: allowed by {binding} of {kind} {name:?} to {}", subject.unwrap_or_default())
    }
}

impl Index for Policy {
    const PREFIXES: &'static [&'static str] = &[CLUSTER_ROLES, ROLES, CLUSTER_BINDINGS, BINDINGS];

    fn set(&mut self, key: &Bytes, entry: Option<&Entry>) {
        self.put(key, entry.map(|entry| &*entry.value));
    }
}

impl Policy {
    /// Takes in what a store key has become; keys that are neither roles nor bindings do nothing.
    fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        let Ok(key) = std::str::from_utf8(key) else { return };
        // What cannot be read grants nothing.
        let rules = || {
            let role: Option<Role> = value.and_then(|bytes| serde_json::from_slice(bytes).ok());
            role.map(|role| role.rules.unwrap_or_default().into())
        };
        let binding = || value.and_then(|bytes| serde_json::from_slice::<Binding>(bytes).ok());
        if let Some(name) = key.strip_prefix(CLUSTER_ROLES) {
            replace(&mut self.cluster_roles, name, rules());
        } else if let Some(name) = key.strip_prefix(ROLES) {
            replace(&mut self.roles, name, rules());
        } else if let Some(name) = key.strip_prefix(CLUSTER_BINDINGS) {
            let (old, new) = replace(&mut self.cluster_bindings, name, binding());
            self.rebind(None, name, old.as_ref(), new.as_ref());
        } else if let Some(key) = key.strip_prefix(BINDINGS) {
            let (old, new) = replace(&mut self.bindings, key, binding());
            let (namespace, name) = key.split_once('/').unwrap_or(("", key));
            self.rebind(Some(namespace), name, old.as_ref(), new.as_ref());
        }
    }

    fn rebind(&mut self, namespace: Option<&str>, name: &str, old: Option<&Binding>, new: Option<&Binding>) {
        for (binding, add) in [(old, false), (new, true)] {
            for subject in binding.into_iter().flat_map(|own| own.subjects.iter().flatten()) {
                let (map, key) = match subject.user(namespace) {
                    Some(user) => (&mut self.users, user),
                    None if subject.kind == "Group" => (&mut self.groups, subject.name.clone()),
                    None => continue,
                };
                let bound = map.entry(key.clone()).or_default();
                let names = match namespace {
                    None => &mut bound.cluster,
                    Some(namespace) => bound.namespaced.entry(namespace.to_owned()).or_default(),
                };
                if add {
                    names.insert(name.to_owned());
                } else {
                    names.remove(name);
                    bound.namespaced.retain(|_, names| !names.is_empty());
                    if bound.cluster.is_empty() && bound.namespaced.is_empty() {
                        map.remove(&key);
                    }
                }
            }
        }
    }

    /// The rules of a role; `Err` says that it is not there.
    pub(crate) fn role(&self, role: &RoleRef, namespace: Option<&str>) -> Result<&Arc<[Rule]>, String> {
        let (found, kind) = match (role.kind.as_str(), namespace) {
            ("ClusterRole", _) => (self.cluster_roles.get(&role.name), "clusterrole"),
            (_, Some(namespace)) => (self.roles.get(&format!("{namespace}/{}", role.name)), "role"),
            (_, None) => (None, "role"),
        };
        found.ok_or_else(|| format!("{kind}.rbac.authorization.k8s.io {:?} not found", role.name))
    }

    /// Shows the rules that hold for a user in a namespace (and in the cluster) until told to stop.
    /// Returns the roles that are bound but not there.
    fn visit<'a>(
        &'a self,
        user: &'a Identity,
        namespace: &str,
        mut see: impl FnMut(Grant<'a>) -> ControlFlow<()>,
    ) -> Vec<String> {
        let own = self.users.get(&user.name).into_iter();
        let bound: Vec<&Bound> = own.chain(user.groups.iter().filter_map(|group| self.groups.get(group))).collect();
        let mut missing = Vec::new();
        let cluster = bound.iter().flat_map(|own| &own.cluster).map(|name| {
            let given = self.cluster_bindings.get(name);
            (name, None, given)
        });
        let namespaced = bound.iter().filter_map(|own| own.namespaced.get_key_value(namespace));
        let namespaced = namespaced.flat_map(|(namespace, names)| names.iter().map(move |name| (namespace, name)));
        let namespaced = namespaced.map(|(namespace, name)| {
            let given = self.bindings.get(&format!("{namespace}/{name}"));
            (name, Some(namespace.as_str()), given)
        });
        for (name, namespace, given) in cluster.chain(namespaced) {
            let Some(given) = given else { continue };
            match self.role(&given.role_ref, namespace) {
                Ok(rules) => {
                    for rule in rules.iter() {
                        if see(Grant { rule, binding: (name, namespace), given, user }).is_break() {
                            return missing;
                        }
                    }
                }
                Err(why) => missing.push(why),
            }
        }
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// Whether a user may do something. The reason is given for refusals, and for permissions only if `explain` is set.
    pub(crate) fn decide(&self, user: &Identity, asked: &Attributes<'_>, explain: bool) -> Decision {
        let namespace = match &asked.what {
            What::Resource(resource) => resource.namespace,
            What::Path(_) => "",
        };
        let mut granted = None;
        let missing = self.visit(user, namespace, |grant| {
            if !grant.rule.allows(asked) {
                return ControlFlow::Continue(());
            }
            granted = Some(if explain { grant.show() } else { String::new() });
            ControlFlow::Break(())
        });
        match granted {
            Some(reason) => Decision { allowed: true, reason },
            None => Decision { allowed: false, reason: unresolved(&missing) },
        }
    }

    /// All rules that hold for a user in a namespace, and the roles that are bound but not there.
    pub(crate) fn rules_of(&self, user: &Identity, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let mut rules = Vec::new();
        let missing = self.visit(user, namespace, |grant| {
            rules.push(grant.rule.clone());
            ControlFlow::Continue(())
        });
        (rules, missing)
    }
}

/// `RBAC: ...` for roles that are not there; empty if none is missing.
fn unresolved(missing: &[String]) -> String {
    match missing {
        [] => String::new(),
        [one] => format!("RBAC: {one}"),
        many => format!("RBAC: [{}]", many.join(", ")),
    }
}

/// Puts a value in place of another, or nothing; returns both.
fn replace<T: Clone>(map: &mut HashMap<String, T>, key: &str, new: Option<T>) -> (Option<T>, Option<T>) {
    let old = match new.clone() {
        Some(new) => map.insert(key.to_owned(), new),
        None => map.remove(key),
    };
    (old, new)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::attributes::Resource;
    use super::*;

    fn set(policy: &mut Policy, key: &str, value: &Value) {
        let bytes = value.to_string();
        policy.put(format!("/registry/{key}").as_bytes(), (!value.is_null()).then_some(bytes.as_bytes()));
    }

    fn role(verb: &str) -> Value {
        json!({"rules": [{"verbs": [verb], "apiGroups": [""], "resources": ["pods"]}]})
    }

    fn binding(kind: &str, role: &str, subjects: &[(&str, &str)]) -> Value {
        let subjects: Vec<Value> = subjects.iter().map(|(kind, name)| json!({"kind": kind, "name": name})).collect();
        json!({"roleRef": {"kind": kind, "name": role}, "subjects": subjects})
    }

    fn ask(policy: &Policy, user: &Identity, verb: &str, namespace: &str) -> Decision {
        let resource = Resource { resource: "pods", namespace, ..Resource::default() };
        policy.decide(user, &Attributes::to(verb, resource), true)
    }

    #[test]
    fn bindings_give_roles_where_they_are() {
        let mut policy = Policy::default();
        let ann = Identity::new("ann", &["team"]);
        let account = Identity::service_account("a", "robot");
        set(&mut policy, "clusterroles/reader", &role("get"));
        set(&mut policy, "roles/a/writer", &role("create"));
        set(&mut policy, "clusterrolebindings/all", &binding("ClusterRole", "reader", &[("Group", "team")]));
        set(
            &mut policy,
            "rolebindings/a/w",
            &binding("Role", "writer", &[("User", "ann"), ("ServiceAccount", "robot")]),
        );
        let decision = ask(&policy, &ann, "get", "b");
        let reason = r#"RBAC: allowed by ClusterRoleBinding "all" of ClusterRole "reader" to Group "team""#;
        assert_eq!((decision.allowed, decision.reason.as_str()), (true, reason));
        let decision = ask(&policy, &account, "create", "a");
        let reason = r#"RBAC: allowed by RoleBinding "w/a" of Role "writer" to ServiceAccount "robot/a""#;
        assert_eq!((decision.allowed, decision.reason.as_str()), (true, reason));
        assert!(ask(&policy, &ann, "create", "a").allowed);
        for (user, verb, namespace) in [(&ann, "create", "b"), (&ann, "create", ""), (&account, "get", "a")] {
            assert_eq!(ask(&policy, user, verb, namespace), Decision::default(), "{verb} in {namespace:?}");
        }

        set(&mut policy, "roles/a/writer", &Value::Null);
        let reason = "RBAC: role.rbac.authorization.k8s.io \"writer\" not found";
        assert_eq!(ask(&policy, &ann, "create", "a").reason, reason);
        set(&mut policy, "rolebindings/a/w", &binding("ClusterRole", "reader", &[("User", "bob")]));
        assert_eq!(ask(&policy, &ann, "create", "a"), Decision::default());
        assert!(ask(&policy, &Identity::new("bob", &[]), "get", "a").allowed);
        for key in ["rolebindings/a/w", "clusterrolebindings/all", "clusterroles/reader"] {
            set(&mut policy, key, &Value::Null);
        }
        assert!(policy.users.is_empty() && policy.groups.is_empty() && policy.bindings.is_empty());
    }

    #[test]
    fn all_rules_are_listed() {
        let mut policy = Policy::default();
        set(&mut policy, "clusterroles/reader", &role("get"));
        set(&mut policy, "clusterrolebindings/all", &binding("ClusterRole", "reader", &[("User", "ann")]));
        set(&mut policy, "rolebindings/a/w", &binding("Role", "writer", &[("User", "ann")]));
        let (rules, missing) = policy.rules_of(&Identity::new("ann", &[]), "a");
        assert_eq!((rules.len(), missing.len()), (1, 1), "{missing:?}");
    }
}
