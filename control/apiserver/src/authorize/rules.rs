//! Policy rules: what one allows, and whether some rules include another.
//!
//! Spec: <https://kubernetes.io/docs/reference/access-authn-authz/rbac/>

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Deserializer, Serialize};

use super::attributes::{Attributes, What};

/// A rule of a role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rule {
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub(crate) api_groups: Vec<String>,
    #[serde(rename = "nonResourceURLs", deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub(crate) paths: Vec<String>,
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub(crate) resource_names: Vec<String>,
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub(crate) resources: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub(crate) verbs: Vec<String>,
}

/// A list that may be null.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

const ALL: &str = "*";

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|own| own == ALL || own == wanted)
}

/// Whether a list of resources has this one. `wanted` is `pods` or `pods/log`.
fn has_resource(list: &[String], resource: &str, subresource: &str) -> bool {
    list.iter().any(|own| match own.split_once('/') {
        _ if own == ALL => true,
        None => subresource.is_empty() && own == resource,
        Some((ALL, own)) => !subresource.is_empty() && own == subresource,
        Some((parent, own)) => own == subresource && parent == resource,
    })
}

/// Whether a list of paths has this one: `/healthz/*` has `/healthz/ping`.
fn has_path(list: &[String], path: &str) -> bool {
    list.iter().any(|own| own == path || own.strip_suffix('*').is_some_and(|start| path.starts_with(start)))
}

impl Rule {
    /// Whether the rule allows what is asked for.
    pub(crate) fn allows(&self, asked: &Attributes<'_>) -> bool {
        if !has(&self.verbs, &asked.verb) {
            return false;
        }
        match &asked.what {
            What::Path(path) => has_path(&self.paths, path),
            What::Resource(asked) => {
                has(&self.api_groups, asked.group)
                    && has_resource(&self.resources, asked.resource, asked.subresource)
                    && (self.resource_names.is_empty() || self.resource_names.iter().any(|own| *own == *asked.name))
            }
        }
    }

    /// Whether the rule includes all that another allows, which must be a single right as `singles` makes them.
    fn covers(&self, single: &Self) -> bool {
        let all = |own: &[String], wanted: &[String]| wanted.iter().all(|wanted| has(own, wanted));
        let resources = single.resources.iter().all(|wanted| {
            let (resource, subresource) = wanted.split_once('/').unwrap_or((wanted, ""));
            self.resources.contains(wanted) || has_resource(&self.resources, resource, subresource)
        });
        let names = self.resource_names.is_empty()
            || (!single.resource_names.is_empty()
                && single.resource_names.iter().all(|name| self.resource_names.contains(name)));
        // A path that ends in `*` is included by itself and by every shorter one that does.
        let paths = single.paths.iter().all(|path| has_path(&self.paths, path));
        all(&self.verbs, &single.verbs) && all(&self.api_groups, &single.api_groups) && resources && names && paths
    }

    /// The rule taken apart: one verb of one resource in one group, of at most one name, or one verb of one path.
    fn singles(&self) -> Vec<Self> {
        let one = |text: &String| vec![text.clone()];
        let mut singles = Vec::new();
        for verb in &self.verbs {
            for group in &self.api_groups {
                for resource in &self.resources {
                    let single =
                        Self { verbs: one(verb), api_groups: one(group), resources: one(resource), ..Self::default() };
                    if self.resource_names.is_empty() {
                        singles.push(single);
                    } else {
                        let named = |name| Self { resource_names: one(name), ..single.clone() };
                        singles.extend(self.resource_names.iter().map(named));
                    }
                }
            }
            singles.extend(self.paths.iter().map(|path| Self {
                verbs: one(verb),
                paths: one(path),
                ..Self::default()
            }));
        }
        singles
    }

    /// As messages show it.
    fn show(&self) -> String {
        let fields = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.paths),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let shown = fields.iter().filter(|(_, list)| !list.is_empty());
        let shown: Vec<String> = shown.map(|(name, list)| format!("{name}:{}", quoted(list))).collect();
        format!("{{{}}}", shown.join(", "))
    }
}

/// A list of texts as messages show it: `["a" "b"]`.
pub(crate) fn quoted(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

/// Most rights that a role's rules are taken apart into: a role with more is not compared but refused.
const MOST_SINGLES: usize = 10_000;
/// Most lines of a refusal.
const MOST_LINES: usize = 100;

/// What of `wanted` none of the rules `held` includes, a line a resource, sorted; empty if all is included.
pub(crate) fn missing(held: &[Rule], wanted: &[Rule]) -> Vec<String> {
    let size = |rule: &Rule| {
        let resources =
            rule.api_groups.len().saturating_mul(rule.resources.len()).saturating_mul(rule.resource_names.len().max(1));
        rule.verbs.len().saturating_mul(resources.saturating_add(rule.paths.len()))
    };
    let mut lines = BTreeSet::new();
    if wanted.iter().fold(0_usize, |sum, rule| sum.saturating_add(size(rule))) > MOST_SINGLES {
        lines.insert(format!("more than {MOST_SINGLES} rights"));
        return lines.into_iter().collect();
    }
    for rule in wanted {
        // Most rules are included by one that is held as they are.
        if held.iter().any(|held| held.covers(rule)) {
            continue;
        }
        let singles = rule.singles().into_iter();
        let uncovered = singles.filter(|single| !held.iter().any(|held| held.covers(single)));
        let mut joined: Vec<Rule> = Vec::new();
        let mut places = HashMap::new();
        for single in uncovered {
            if !single.paths.is_empty() {
                joined.push(single);
                continue;
            }
            let what = (single.api_groups.clone(), single.resources.clone(), single.resource_names.clone());
            match places.get(&what).and_then(|place: &usize| joined.get_mut(*place)) {
                Some(own) if !own.verbs.contains(&single.verbs[0]) => own.verbs.extend(single.verbs),
                Some(_) => {}
                None => {
                    places.insert(what, joined.len());
                    joined.push(single);
                }
            }
        }
        lines.extend(joined.iter().map(Rule::show));
    }
    let more = lines.len().saturating_sub(MOST_LINES);
    let mut lines: Vec<String> = lines.into_iter().take(MOST_LINES).collect();
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}

/// The rules of `wanted` that `own` lacks: what a role must gain to have them all.
pub(crate) fn lacking(own: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    wanted.iter().filter(|rule| !missing(own, std::slice::from_ref(rule)).is_empty()).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::super::attributes::Resource;
    use super::*;

    fn rule(text: &str) -> Rule {
        let list = |text: &str| -> Vec<String> {
            text.split(',').map(|item| if item == "core" { String::new() } else { item.to_owned() }).collect()
        };
        let parts: Vec<&str> = text.split(' ').collect();
        match parts.as_slice() {
            [verbs, paths] => Rule { verbs: list(verbs), paths: list(paths), ..Rule::default() },
            [verbs, groups, resources, names @ ..] => Rule {
                verbs: list(verbs),
                api_groups: list(groups),
                resources: list(resources),
                resource_names: names.first().map_or_else(Vec::new, |names| list(names)),
                paths: Vec::new(),
            },
            _ => panic!("a rule has two to four parts: {text}"),
        }
    }

    #[test]
    fn a_large_role_is_compared_in_bounded_work() {
        let many = |count: usize| Rule {
            verbs: vec!["get".to_owned()],
            api_groups: (0..count).map(|number| format!("g{number}")).collect(),
            resources: (0..count).map(|number| format!("r{number}")).collect(),
            ..Rule::default()
        };
        assert_eq!(missing(&[], &[many(447)]), [format!("more than {MOST_SINGLES} rights")]);
        let lines = missing(&[], &[many(99)]);
        assert_eq!((lines.len(), lines[MOST_LINES].as_str()), (MOST_LINES + 1, "and 9701 more"));
    }

    /// `verb group resource[/subresource] [name]`, or `verb /path`.
    fn allows(own: &str, asked: &str) -> bool {
        let parts: Vec<&str> = asked.split(' ').collect();
        let attributes = match parts.as_slice() {
            [verb, path] => Attributes { verb: (*verb).into(), what: What::Path(path) },
            [verb, group, resource, name @ ..] => {
                let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
                let group = if *group == "core" { "" } else { group };
                let name = name.first().copied().unwrap_or_default().into();
                let resource = Resource { group, resource, subresource, name, ..Resource::default() };
                Attributes { verb: (*verb).into(), what: What::Resource(resource) }
            }
            _ => panic!("a question has two to four parts: {asked}"),
        };
        rule(own).allows(&attributes)
    }

    #[test]
    fn rules_allow_what_they_say() {
        let cases = [
            ("get core pods", "get core pods", true),
            ("get core pods", "get core pods a", true),
            ("get core pods", "list core pods", false),
            ("get core pods", "get apps pods", false),
            ("get core pods", "get core pods/log", false),
            ("get core pods/log", "get core pods/log", true),
            ("get core pods/log", "get core pods", false),
            ("* * *", "get core pods/log x", true),
            ("* * *", "* * *", true),
            ("get * *", "* * *", false),
            ("* * *", "get /healthz", false),
            ("get core */scale", "get core deployments/scale", true),
            ("get core */scale", "get core deployments", false),
            ("get core */*", "get core pods", false),
            ("get core configmaps a,b", "get core configmaps b", true),
            ("get core configmaps a,b", "get core configmaps c", false),
            ("list core configmaps a,b", "list core configmaps", false),
            ("get /healthz", "get /healthz", true),
            ("get /healthz", "get /healthz/ping", false),
            ("get /healthz/*", "get /healthz/ping", true),
            ("get /healthz/*", "get /healthz", false),
            ("* *", "put /any", true),
            ("* *", "get core pods", false),
        ];
        for (own, asked, expected) in cases {
            assert_eq!(allows(own, asked), expected, "{own:?} and {asked:?}");
        }
    }

    fn lines(held: &[&str], wanted: &[&str]) -> String {
        let rules = |texts: &[&str]| -> Vec<Rule> { texts.iter().map(|text| rule(text)).collect() };
        missing(&rules(held), &rules(wanted)).join("\n")
    }

    #[test]
    fn what_is_missing_is_told_by_resource() {
        assert_eq!(lines(&["* * *", "* *"], &["get,list core,apps pods x", "get /a/*"]), "");
        assert_eq!(lines(&["get core pods", "list core pods"], &["get,list core pods"]), "");
        assert_eq!(lines(&["get core pods a", "get core pods b"], &["get core pods a,b"]), "");
        assert_eq!(lines(&["get core */scale"], &["get core pods/scale"]), "");
        assert_eq!(lines(&["get core *"], &["get core pods/scale,*/x,*"]), "");
        assert_eq!(lines(&["get /a/*"], &["get /a/b,/a/b/*"]), "");
        expect_test::expect![[r#"
            {APIGroups:["" ], Resources:["pods"], Verbs:["list" "watch"]}"#]]
        .assert_eq(&lines(&["get core pods"], &["get,list,watch core pods"]).replace("[\"\"]", "[\"\" ]"));
        let wanted = ["get core pods", "get core secrets a,b", "get,put /a/*"];
        expect_test::expect![[r#"
            {APIGroups:[""], Resources:["pods"], Verbs:["get"]}
            {APIGroups:[""], Resources:["secrets"], ResourceNames:["a"], Verbs:["get"]}
            {APIGroups:[""], Resources:["secrets"], ResourceNames:["b"], Verbs:["get"]}
            {NonResourceURLs:["/a/*"], Verbs:["get"]}
            {NonResourceURLs:["/a/*"], Verbs:["put"]}"#]]
        .assert_eq(&lines(&["get core pods a", "get /a"], &wanted));
        assert_eq!(lines(&["get core pods a"], &["get core pods"]).lines().count(), 1, "one name is not all");
        assert_eq!(lines(&["get core a/*"], &["get core a/b"]).lines().count(), 1, "only */b is special");
    }

    #[test]
    fn null_lists_are_empty() {
        let rule: Rule = serde_json::from_str(r#"{"verbs":null,"apiGroups":null}"#).expect("a rule");
        assert_eq!(rule, Rule::default());
    }
}
