//! ValidatingWebhookConfigurations and MutatingWebhookConfigurations.
//!
//! Wording: pkg/apis/admissionregistration/validation of Kubernetes v1.36.

use std::collections::HashSet;

use corten_api::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ValidatingWebhook,
    ValidatingWebhookConfiguration, WebhookClientConfig,
};
use corten_api::field::FieldErrors;
use corten_api::label;
use corten_api::meta::LabelSelector;
use corten_api::names::{Names, Scope};
use corten_base::Timestamp;
use serde_json::{Value, json};

use super::rules::{self, one_of};
use crate::ColumnHead;
use crate::kind::Kind;
use crate::meta::rfc_1035_problems;
use crate::selectors::{self, invalid_json};
use crate::table::{NAME, age, column, number};

const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

const fn names(kind: &'static str, plural: &'static str, singular: &'static str) -> Names {
    let (group, categories) = ("admissionregistration.k8s.io", &["api-extensions"]);
    Names { group, version: "v1", kind, plural, singular, short: &[], categories }
}

pub(crate) struct ValidatingWebhooks;

impl Kind for ValidatingWebhooks {
    type Object = ValidatingWebhookConfiguration;

    const NAMES: Names =
        names("ValidatingWebhookConfiguration", "validatingwebhookconfigurations", "validatingwebhookconfiguration");
    const UNCONDITIONAL_UPDATE: bool = false;
    const SCOPE: Scope = Scope::Cluster;
    const COLUMNS: &'static [ColumnHead] = &[NAME, number("Webhooks"), column("Age")];
    const GENERATION: bool = true;

    fn cells(config: &ValidatingWebhookConfiguration, now: Timestamp) -> Vec<Value> {
        let count = config.webhooks.as_ref().map_or(0, Vec::len);
        vec![json!(config.metadata.name), json!(count), age(config.metadata.creation_timestamp.as_ref(), now).into()]
    }

    fn default(config: &mut ValidatingWebhookConfiguration) {
        config.webhooks.iter_mut().flatten().for_each(|webhook| common_mut(webhook).default());
    }

    fn validate(
        config: &ValidatingWebhookConfiguration,
        _old: Option<&ValidatingWebhookConfiguration>,
        errs: &mut FieldErrors,
    ) {
        let mut names = HashSet::new();
        for (index, webhook) in config.webhooks.iter().flatten().enumerate() {
            let mut own = webhook.clone();
            common_mut(&mut own).validate(&format!("webhooks[{index}]"), &mut names, errs);
        }
    }
}

pub(crate) struct MutatingWebhooks;

impl Kind for MutatingWebhooks {
    type Object = MutatingWebhookConfiguration;

    const NAMES: Names =
        names("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", "mutatingwebhookconfiguration");
    const UNCONDITIONAL_UPDATE: bool = false;
    const SCOPE: Scope = Scope::Cluster;
    const COLUMNS: &'static [ColumnHead] = &[NAME, number("Webhooks"), column("Age")];
    const GENERATION: bool = true;

    fn cells(config: &MutatingWebhookConfiguration, now: Timestamp) -> Vec<Value> {
        let count = config.webhooks.as_ref().map_or(0, Vec::len);
        vec![json!(config.metadata.name), json!(count), age(config.metadata.creation_timestamp.as_ref(), now).into()]
    }

    fn default(config: &mut MutatingWebhookConfiguration) {
        for webhook in config.webhooks.iter_mut().flatten() {
            webhook.reinvocation_policy.get_or_insert_with(|| "Never".to_owned());
            mutating_mut(webhook).default();
        }
    }

    fn validate(
        config: &MutatingWebhookConfiguration,
        _old: Option<&MutatingWebhookConfiguration>,
        errs: &mut FieldErrors,
    ) {
        let mut names = HashSet::new();
        for (index, webhook) in config.webhooks.iter().flatten().enumerate() {
            let path = format!("webhooks[{index}]");
            let mut own = webhook.clone();
            mutating_mut(&mut own).validate(&path, &mut names, errs);
            if let Some(policy) = &webhook.reinvocation_policy {
                one_of(policy, &["IfNeeded", "Never"], &format!("{path}.reinvocationPolicy"), errs);
            }
        }
    }
}

/// What both kinds of webhooks have.
struct Webhook<'a> {
    versions: &'a mut Vec<String>,
    client: &'a mut WebhookClientConfig,
    failure_policy: &'a mut Option<String>,
    conditions: &'a mut Option<Vec<MatchCondition>>,
    match_policy: &'a mut Option<String>,
    name: &'a mut String,
    namespaces: &'a mut Option<LabelSelector>,
    objects: &'a mut Option<LabelSelector>,
    rules: &'a mut Option<Vec<RuleWithOperations>>,
    side_effects: &'a mut String,
    timeout: &'a mut Option<i32>,
}

fn common_mut(webhook: &mut ValidatingWebhook) -> Webhook<'_> {
    Webhook {
        versions: &mut webhook.admission_review_versions,
        client: &mut webhook.client_config,
        failure_policy: &mut webhook.failure_policy,
        conditions: &mut webhook.match_conditions,
        match_policy: &mut webhook.match_policy,
        name: &mut webhook.name,
        namespaces: &mut webhook.namespace_selector,
        objects: &mut webhook.object_selector,
        rules: &mut webhook.rules,
        side_effects: &mut webhook.side_effects,
        timeout: &mut webhook.timeout_seconds,
    }
}

fn mutating_mut(webhook: &mut MutatingWebhook) -> Webhook<'_> {
    Webhook {
        versions: &mut webhook.admission_review_versions,
        client: &mut webhook.client_config,
        failure_policy: &mut webhook.failure_policy,
        conditions: &mut webhook.match_conditions,
        match_policy: &mut webhook.match_policy,
        name: &mut webhook.name,
        namespaces: &mut webhook.namespace_selector,
        objects: &mut webhook.object_selector,
        rules: &mut webhook.rules,
        side_effects: &mut webhook.side_effects,
        timeout: &mut webhook.timeout_seconds,
    }
}

impl Webhook<'_> {
    fn default(self) {
        self.failure_policy.get_or_insert_with(|| "Fail".to_owned());
        self.match_policy.get_or_insert_with(|| "Equivalent".to_owned());
        self.namespaces.get_or_insert_default();
        self.objects.get_or_insert_default();
        self.timeout.get_or_insert(10);
        if let Some(service) = &mut self.client.service {
            service.port.get_or_insert(443);
        }
        self.rules.iter_mut().flatten().for_each(|rule| rules::default_scope(&mut rule.scope));
    }

    fn validate(self, path: &str, names: &mut HashSet<String>, errs: &mut FieldErrors) {
        qualified(self.name, &format!("{path}.name"), errs);
        if !names.insert(self.name.clone()) {
            errs.duplicate(format!("{path}.name"), &*self.name);
        }
        for (index, rule) in self.rules.iter().flatten().enumerate() {
            rules::rule(rule, &format!("{path}.rules[{index}]"), errs);
        }
        if let Some(policy) = &self.failure_policy {
            one_of(policy, &["Fail", "Ignore"], &format!("{path}.failurePolicy"), errs);
        }
        if let Some(policy) = &self.match_policy {
            one_of(policy, &["Equivalent", "Exact"], &format!("{path}.matchPolicy"), errs);
        }
        match self.side_effects.as_str() {
            "" => errs.required(format!("{path}.sideEffects"), "must specify one of None, NoneOnDryRun"),
            given => one_of(given, &["None", "NoneOnDryRun"], &format!("{path}.sideEffects"), errs),
        }
        if let Some(seconds) = self.timeout.filter(|seconds| !(1..=30).contains(seconds)) {
            let why = "the timeout value must be between 1 and 30 seconds";
            errs.invalid(format!("{path}.timeoutSeconds"), seconds, why);
        }
        selectors::optional(self.namespaces.as_ref(), &format!("{path}.namespaceSelector"), errs);
        selectors::optional(self.objects.as_ref(), &format!("{path}.objectSelector"), errs);
        rules::client(self.client, &format!("{path}.clientConfig"), errs);
        versions(self.versions, &format!("{path}.admissionReviewVersions"), errs);
        rules::conditions(self.conditions.as_deref().unwrap_or_default(), &format!("{path}.matchConditions"), errs);
    }
}

/// A name of at least three parts.
fn qualified(name: &str, path: &str, errs: &mut FieldErrors) {
    if name.is_empty() {
        return errs.required(path, "");
    }
    label::subdomain_problems(name).into_iter().for_each(|why| errs.invalid(path, name, why));
    if name.split('.').count() < 3 {
        errs.invalid(path, name, "should be a domain with at least three segments separated by dots");
    }
}

fn versions(versions: &[String], path: &str, errs: &mut FieldErrors) {
    let known = VERSIONS.join(", ");
    if versions.is_empty() {
        return errs.required(path, format!("must specify one of {known}"));
    }
    let mut seen = HashSet::new();
    for (index, version) in versions.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if !seen.insert(version) {
            errs.invalid(&path, version, "duplicate version");
        }
        rfc_1035_problems(version).into_iter().for_each(|why| errs.invalid(&path, version, why));
    }
    if !versions.iter().any(|version| VERSIONS.contains(&version.as_str())) {
        invalid_json(errs, path, &versions, &format!("must include at least one of {known}"));
    }
}
