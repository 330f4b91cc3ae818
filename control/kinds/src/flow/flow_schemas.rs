//! FlowSchemas: which requests belong to which priority level.
//!
//! Wording: pkg/apis/flowcontrol/validation of Kubernetes v1.36.

use corten_api::api::flowcontrol::v1::{
    FlowSchema, FlowSchemaSpec, FlowSchemaStatus, NonResourcePolicyRule, PolicyRulesWithSubjects, ResourcePolicyRule,
    Subject,
};
use corten_api::field::FieldErrors;
use corten_api::label;
use corten_api::names::{Names, Scope};
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::meta::{keep_for_status, label_problems};
use crate::selectors::invalid_json;
use crate::table::{NAME, age, column};
use crate::{ColumnHead, Subresource, WriteContext};

const MOST_PRECEDENCE: i32 = 10_000;
const VERBS: [&str; 11] =
    ["*", "create", "delete", "deletecollection", "get", "list", "patch", "post", "proxy", "update", "watch"];
const PATH_VERBS: [&str; 8] = ["*", "delete", "get", "head", "options", "patch", "post", "put"];

pub(crate) struct FlowSchemas;

impl Kind for FlowSchemas {
    type Object = FlowSchema;

    const NAMES: Names = Names {
        group: "flowcontrol.apiserver.k8s.io",
        version: "v1",
        kind: "FlowSchema",
        plural: "flowschemas",
        singular: "flowschema",
        short: &[],
        categories: &[],
    };
    const SCOPE: Scope = Scope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [ColumnHead] = &[
        NAME,
        column("PriorityLevel"),
        column("MatchingPrecedence"),
        column("DistinguisherMethod"),
        column("Age"),
        column("MissingPL"),
    ];
    const GENERATION: bool = true;

    fn cells(schema: &FlowSchema, now: Timestamp) -> Vec<Value> {
        let spec = schema.spec.clone().unwrap_or_default();
        let conditions = schema.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let dangling = conditions.into_iter().find(|condition| condition.type_.as_deref() == Some("Dangling"));
        vec![
            json!(schema.metadata.name),
            spec.priority_level_configuration.name.into(),
            spec.matching_precedence.unwrap_or(0).to_string().into(),
            spec.distinguisher_method.map_or_else(|| "<none>".to_owned(), |method| method.type_).into(),
            age(schema.metadata.creation_timestamp.as_ref(), now).into(),
            dangling.and_then(|condition| condition.status.clone()).unwrap_or_else(|| "?".to_owned()).into(),
        ]
    }

    fn default(schema: &mut FlowSchema) {
        if let Some(spec) = &mut schema.spec
            && spec.matching_precedence.is_none_or(|precedence| precedence == 0)
        {
            spec.matching_precedence = Some(1000);
        }
    }

    fn prepare(new: &mut FlowSchema, old: Option<&FlowSchema>, _cx: &WriteContext<'_>) -> Result<(), Status> {
        if old.is_none() {
            new.status = Some(FlowSchemaStatus::default());
        }
        Ok(())
    }

    fn prepare_status(new: &mut FlowSchema, old: &FlowSchema, _cx: &WriteContext<'_>) -> Result<(), Status> {
        keep_for_status(&mut new.metadata, &old.metadata);
        Ok(())
    }

    fn validate(schema: &FlowSchema, _old: Option<&FlowSchema>, errs: &mut FieldErrors) {
        let name = schema.metadata.name.as_deref().unwrap_or_default();
        let empty = FlowSchemaSpec::default();
        let spec = schema.spec.as_ref().unwrap_or(&empty);
        let precedence = spec.matching_precedence.unwrap_or(0);
        const PATH: &str = "spec.matchingPrecedence";
        if precedence <= 0 {
            errs.invalid(PATH, precedence, "must be a positive value");
        }
        if precedence > MOST_PRECEDENCE {
            errs.invalid(PATH, precedence, format!("must not be greater than {MOST_PRECEDENCE}"));
        }
        if precedence == 1 && name != "exempt" {
            errs.invalid(PATH, precedence, "only the schema named 'exempt' may have matchingPrecedence 1");
        }
        if let Some(method) = &spec.distinguisher_method {
            one_of(&method.type_, &["ByNamespace", "ByUser"], "spec.distinguisherMethod.type", errs);
        }
        let level = &spec.priority_level_configuration.name;
        if level.is_empty() {
            errs.required("spec.priorityLevelConfiguration.name", "must reference a priority level");
        } else {
            let problems = label::subdomain_problems(level);
            problems.into_iter().for_each(|why| errs.invalid("spec.priorityLevelConfiguration.name", level, why));
        }
        for (index, rule) in spec.rules.iter().flatten().enumerate() {
            self::rule(rule, &format!("spec.rules[{index}]"), errs);
        }
    }

    fn validate_status(new: &FlowSchema, _old: &FlowSchema, errs: &mut FieldErrors) {
        let mut seen = Vec::new();
        for (index, condition) in new.status.iter().flat_map(|status| status.conditions.iter().flatten()).enumerate() {
            let path = format!("status.conditions[{index}].type");
            let kind = condition.type_.clone().unwrap_or_default();
            if kind.is_empty() {
                errs.required(path, "must not be empty");
            } else if seen.contains(&kind) {
                errs.duplicate(path, kind);
            } else {
                seen.push(kind);
            }
        }
    }
}

fn one_of(word: &str, known: &[&str], path: &str, errs: &mut FieldErrors) {
    if !known.contains(&word) {
        errs.not_supported(path, word, known);
    }
}

fn rule(rule: &PolicyRulesWithSubjects, path: &str, errs: &mut FieldErrors) {
    if rule.subjects.is_empty() {
        errs.required(format!("{path}.subjects"), "subjects must contain at least one value");
    }
    for (index, subject) in rule.subjects.iter().enumerate() {
        self::subject(subject, &format!("{path}.subjects[{index}]"), errs);
    }
    let (resources, paths) =
        (rule.resource_rules.as_deref().unwrap_or_default(), rule.non_resource_rules.as_deref().unwrap_or_default());
    if resources.is_empty() && paths.is_empty() {
        errs.required(path, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    for (index, rule) in resources.iter().enumerate() {
        resource_rule(rule, &format!("{path}.resourceRules[{index}]"), errs);
    }
    for (index, rule) in paths.iter().enumerate() {
        path_rule(rule, &format!("{path}.nonResourceRules[{index}]"), errs);
    }
}

fn subject(subject: &Subject, path: &str, errs: &mut FieldErrors) {
    let given = [
        ("ServiceAccount", "serviceAccount", subject.service_account.is_some()),
        ("User", "user", subject.user.is_some()),
        ("Group", "group", subject.group.is_some()),
    ];
    if !given.iter().any(|(kind, ..)| *kind == subject.kind) {
        one_of(&subject.kind, &["Group", "ServiceAccount", "User"], &format!("{path}.kind"), errs);
    }
    for (kind, field, present) in given {
        if present && kind != subject.kind {
            errs.forbidden(
                format!("{path}.{field}"),
                format!("{field} is forbidden when subject kind is not '{kind}'"),
            );
        }
        if !present && kind == subject.kind {
            errs.required(format!("{path}.{field}"), format!("{field} is required when subject kind is '{kind}'"));
        }
    }
    if let Some(account) = &subject.service_account {
        let path = format!("{path}.serviceAccount");
        match account.name.as_str() {
            "" => errs.required(format!("{path}.name"), ""),
            "*" => {}
            name => {
                let problems = label::subdomain_problems(name);
                problems.into_iter().for_each(|why| errs.invalid(format!("{path}.name"), name, why));
            }
        }
        match account.namespace.as_str() {
            "" => errs.required(format!("{path}.namespace"), "must specify namespace for service account"),
            name => {
                let problems = label_problems(name);
                problems.into_iter().for_each(|why| errs.invalid(format!("{path}.namespace"), name, why));
            }
        }
    }
    for (field, name) in [
        ("user", subject.user.as_ref().map(|user| &user.name)),
        ("group", subject.group.as_ref().map(|group| &group.name)),
    ] {
        if name.is_some_and(String::is_empty) {
            errs.required(format!("{path}.{field}.name"), "");
        }
    }
}

/// A list that has entries, and where `*` stands alone.
fn list(list: &[String], path: &str, (missing, others): (&str, &str), errs: &mut FieldErrors) {
    if list.is_empty() {
        errs.required(path, missing);
    } else if list.len() > 1 && list.iter().any(|entry| entry == "*") {
        invalid_json(errs, path, &list, &format!("if '*' is present, must not specify other {others}"));
    }
}

fn verbs(verbs: &[String], known: &[&str], path: &str, errs: &mut FieldErrors) {
    list(verbs, path, ("verbs must contain at least one value", "verbs"), errs);
    if verbs.iter().any(|verb| !known.contains(&verb.as_str())) {
        let shown = serde_json::to_string(verbs).unwrap_or_default();
        let known = known.iter().map(|&verb| verb.to_owned()).collect();
        errs.push(path, corten_api::field::Problem::NotSupported(shown, known));
    }
}

fn resource_rule(rule: &ResourcePolicyRule, path: &str, errs: &mut FieldErrors) {
    verbs(&rule.verbs, &VERBS, &format!("{path}.verbs"), errs);
    let words = ("resource rules must supply at least one api group", "api groups");
    list(&rule.api_groups, &format!("{path}.apiGroups"), words, errs);
    let words = ("resource rules must supply at least one resource", "resources");
    list(&rule.resources, &format!("{path}.resources"), words, errs);
    let namespaces = rule.namespaces.as_deref().unwrap_or_default();
    let path = format!("{path}.namespaces");
    if namespaces.is_empty() && rule.cluster_scope != Some(true) {
        errs.required(path, "resource rules that are not cluster scoped must supply at least one namespace");
    } else if !namespaces.is_empty() {
        list(namespaces, &path, ("", "namespaces"), errs);
        for (index, name) in namespaces.iter().enumerate().filter(|(_, name)| *name != "*") {
            label_problems(name).into_iter().for_each(|why| errs.invalid(format!("{path}[{index}]"), name, why));
        }
    }
}

fn path_rule(rule: &NonResourcePolicyRule, path: &str, errs: &mut FieldErrors) {
    verbs(&rule.verbs, &PATH_VERBS, &format!("{path}.verbs"), errs);
    let path = format!("{path}.nonResourceURLs");
    let words = ("nonResourceURLs must contain at least one value", "non-resource URLs");
    list(&rule.non_resource_urls, &path, words, errs);
    for (index, url) in rule.non_resource_urls.iter().enumerate().filter(|(_, url)| *url != "*") {
        let path = format!("{path}[{index}]");
        if !url.starts_with('/') {
            errs.invalid(&path, url, "must start with slash");
        } else if url.contains(' ') {
            errs.invalid(&path, url, "must not contain white-space");
        } else if url.contains("//") {
            errs.invalid(&path, url, "must not contain double slash");
        } else if url.find('*').is_some_and(|at| at + 1 != url.len() || !url.ends_with("/*")) {
            errs.invalid(&path, url, "wildcard can only do suffix matching");
        }
    }
}
