//! Reads policy.txt.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::authorize::rules::Rule;

const GROUP: &str = "rbac.authorization.k8s.io";
const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];

/// A role or a binding that every cluster has.
#[derive(Debug)]
pub(super) struct Preset {
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    pub(super) entry: Entry,
}

#[derive(Debug)]
pub(super) enum Entry {
    /// `to` and `from` are the roles into which it is aggregated, and of which it aggregates.
    Role {
        rules: Vec<Rule>,
        to: Vec<String>,
        from: Vec<String>,
    },
    Binding {
        role: RoleRef,
        subjects: Vec<Value>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RoleRef {
    api_group: &'static str,
    kind: &'static str,
    name: String,
}

impl Preset {
    pub(super) fn kind(&self) -> &'static str {
        match (&self.entry, &self.namespace) {
            (Entry::Role { .. }, None) => "ClusterRole",
            (Entry::Role { .. }, Some(_)) => "Role",
            (Entry::Binding { .. }, None) => "ClusterRoleBinding",
            (Entry::Binding { .. }, Some(_)) => "RoleBinding",
        }
    }

    pub(super) fn storage(&self) -> &'static str {
        match self.kind() {
            "ClusterRole" => "clusterroles",
            "Role" => "roles",
            "ClusterRoleBinding" => "clusterrolebindings",
            _ => "rolebindings",
        }
    }

    /// A subject that earlier versions bound, and that is to lose the role.
    pub(super) fn withdrawn(&self) -> Option<Value> {
        (self.name == "system:node").then(|| json!({"apiGroup": GROUP, "kind": "Group", "name": "system:nodes"}))
    }

    pub(super) fn labels(&self) -> Map<String, Value> {
        let mut labels = Map::new();
        labels.insert("kubernetes.io/bootstrapping".to_owned(), "rbac-defaults".into());
        if let Entry::Role { to, .. } = &self.entry {
            labels.extend(to.iter().map(|role| (label(role), "true".into())));
        }
        labels
    }
}

/// The label that has a role's rules aggregated into another.
pub(super) fn label(role: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{role}")
}

/// All of them.
pub(super) fn presets() -> Vec<Preset> {
    let mut presets: Vec<Preset> = Vec::new();
    for line in include_str!("policy.txt").lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] | ["#", ..] => {}
            ["role", name, options @ ..] => presets.push(role(name, options)),
            ["bind", name, words @ ..] => presets.push(binding(name, words)),
            words => {
                if let Some(Preset { entry: Entry::Role { rules, .. }, .. }) = presets.last_mut() {
                    rules.push(rule(words));
                }
            }
        }
    }
    presets
}

fn place(name: &str) -> (Option<String>, String) {
    match name.split_once('/') {
        Some((namespace, name)) => (Some(namespace.to_owned()), name.to_owned()),
        None => (None, name.to_owned()),
    }
}

fn role(name: &str, options: &[&str]) -> Preset {
    let of = |option: &str| -> Vec<String> {
        options.iter().filter_map(|own| own.strip_prefix(option)).map(str::to_owned).collect()
    };
    let (namespace, name) = place(name);
    Preset { namespace, name, entry: Entry::Role { rules: Vec::new(), to: of("to="), from: of("from=") } }
}

fn binding(name: &str, words: &[&str]) -> Preset {
    let (namespace, name) = place(name);
    let role = words.iter().find_map(|word| word.strip_prefix("role="));
    let kind = if namespace.is_some() { "Role" } else { "ClusterRole" };
    let role = RoleRef { api_group: GROUP, kind, name: role.unwrap_or(&name).to_owned() };
    let subjects = words.iter().filter_map(|word| subject(word)).collect();
    Preset { namespace, name, entry: Entry::Binding { role, subjects } }
}

fn subject(word: &str) -> Option<Value> {
    let (kind, name) = word.split_once(':')?;
    match kind {
        "user" => Some(json!({"apiGroup": GROUP, "kind": "User", "name": name})),
        "group" => Some(json!({"apiGroup": GROUP, "kind": "Group", "name": name})),
        "account" => {
            let (namespace, name) = name.split_once('/')?;
            Some(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}))
        }
        _ => None,
    }
}

fn rule(words: &[&str]) -> Rule {
    let list = |text: &str| -> Vec<String> {
        text.split(',').map(|item| if item == "core" { String::new() } else { item.to_owned() }).collect()
    };
    let verbs = |text: &str| -> Vec<String> {
        let mut verbs: Vec<&str> = Vec::new();
        for verb in text.split(',') {
            match verb {
                "read" => verbs.extend(READ),
                "write" => verbs.extend(WRITE),
                verb => verbs.push(verb),
            }
        }
        verbs.sort_unstable();
        verbs.into_iter().map(str::to_owned).collect()
    };
    match words {
        [own, paths] => Rule { verbs: verbs(own), paths: list(paths), ..Rule::default() },
        [own, groups, resources, names @ ..] => Rule {
            verbs: verbs(own),
            api_groups: list(groups),
            resources: list(resources),
            resource_names: names.first().map_or_else(Vec::new, |names| list(names)),
            paths: Vec::new(),
        },
        _ => Rule::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_understood() {
        let text = include_str!("policy.txt");
        let all = presets();
        let heads = text.lines().filter(|line| line.starts_with("role ") || line.starts_with("bind ")).count();
        assert_eq!(all.len(), heads);
        let rules: usize =
            all.iter().map(|own| if let Entry::Role { rules, .. } = &own.entry { rules.len() } else { 0 }).sum();
        assert_eq!(rules, text.lines().filter(|line| line.starts_with("  ")).count());
        for own in &all {
            match &own.entry {
                Entry::Role { rules, from, .. } => {
                    assert!(!rules.is_empty() || !from.is_empty(), "{} has no rules", own.name);
                    assert!(rules.iter().all(|rule| !rule.verbs.is_empty()), "{}", own.name);
                }
                Entry::Binding { role, subjects } => {
                    // Nodes have their rights from the authorizer of nodes.
                    assert!(!subjects.is_empty() || own.name == "system:node", "{} has no subjects", own.name);
                    let bound = |other: &Preset| {
                        other.name == role.name && other.namespace == own.namespace && other.kind() == role.kind
                    };
                    assert!(all.iter().any(bound), "{} binds {role:?}, which is none of the presets", own.name);
                }
            }
        }
    }

    #[test]
    fn whatever_upstream_grants_by_default_is_granted() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let beside = |root: &std::path::Path| root.join("shared/data/rbac");
        let Some(folder) = root.ancestors().skip(2).map(beside).find(|folder| folder.is_dir()) else {
            eprintln!("skipped: there is no reference data (../shared/data/rbac)");
            return;
        };
        let ours = presets();
        let mut lacking = Vec::new();
        for file in ["cluster-roles", "namespace-roles", "cluster-role-bindings", "namespace-role-bindings"] {
            let text = std::fs::read_to_string(folder.join(format!("{file}.yaml"))).expect("the reference can be read");
            let list: Value = serde_saphyr::from_str(&text).expect("YAML");
            for theirs in list["items"].as_array().into_iter().flatten() {
                let metadata = &theirs["metadata"];
                let own = ours.iter().find(|own| {
                    metadata["name"] == *own.name
                        && metadata["namespace"].as_str() == own.namespace.as_deref()
                        && theirs["kind"] == own.kind()
                });
                let Some(own) = own else {
                    lacking.push(format!("{} {}", theirs["kind"], metadata["name"]));
                    continue;
                };
                for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
                    assert_eq!(own.labels().get(key), Some(value), "{}", own.name);
                }
                match &own.entry {
                    Entry::Role { rules, .. } => {
                        let theirs: Option<Vec<Rule>> = serde_json::from_value(theirs["rules"].clone()).expect("rules");
                        let missing = crate::authorize::rules::missing(rules, &theirs.unwrap_or_default());
                        lacking.extend(missing.iter().map(|line| format!("{}: {line}", own.name)));
                    }
                    Entry::Binding { role, subjects } => {
                        assert_eq!(theirs["roleRef"], json!(role), "{}", own.name);
                        let missing = theirs["subjects"].as_array().into_iter().flatten();
                        let missing = missing.filter(|subject| !subjects.contains(subject));
                        lacking.extend(missing.map(|subject| format!("{}: {subject}", own.name)));
                    }
                }
            }
        }
        assert_eq!(lacking.join("\n"), "");
    }
}
