//! PodSecurity: labels of a namespace say how much its pods may do to the machine.
//!
//! Spec: <https://kubernetes.io/docs/concepts/security/pod-security-standards/>. What is only to be audited is not: there
//! is no audit log yet.

mod baseline;
mod check;
mod restricted;

use std::collections::BTreeMap;

use corten_api::field::FieldErrors;
use corten_api::status::Status;
use serde_json::Value;

use self::check::{Check, Finding};
use super::{Attempt, Plugin, is_pod};

const PREFIX: &str = "pod-security.kubernetes.io/";
/// Most pods that are looked at when a namespace becomes stricter.
const MOST_PODS: usize = 3000;

/// Every check, in upstream's order.
static CHECKS: &[Check] = &[
    restricted::ESCALATION,
    baseline::APP_ARMOR,
    baseline::CAPABILITIES,
    restricted::CAPABILITIES,
    baseline::HOST_NAMESPACES,
    baseline::HOST_PATHS,
    baseline::HOST_PORTS,
    baseline::HOST_PROBES,
    baseline::PRIVILEGED,
    baseline::PROC_MOUNT,
    restricted::VOLUMES,
    restricted::NON_ROOT,
    restricted::USER,
    baseline::SELINUX,
    baseline::SECCOMP,
    restricted::SECCOMP,
    baseline::SYSCTLS,
    baseline::HOST_PROCESS,
];

/// How strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }
}

/// What a namespace demands in one mode: `enforce` or `warn`.
struct Demand {
    level: Level,
    /// As messages show it: `restricted:latest`.
    shown: String,
}

impl Demand {
    fn of(namespace: &Value, mode: &str) -> Self {
        let label = |name: String| namespace["metadata"]["labels"][format!("{PREFIX}{name}")].as_str();
        let level = label(mode.to_owned()).unwrap_or("privileged");
        let version = label(format!("{mode}-version")).unwrap_or("latest");
        // Who wrote something that is no level meant to be strict.
        Self { level: Level::parse(level).unwrap_or(Level::Restricted), shown: format!("{level}:{version}") }
    }

    /// What is wrong with a pod, or with the template of one.
    fn findings(&self, pod: &Value) -> Vec<Finding> {
        let strict = self.level == Level::Restricted;
        let applies = |check: &&Check| check.level <= self.level && !(strict && check.replaced);
        CHECKS.iter().filter(applies).filter_map(|check| (check.run)(pod)).collect()
    }
}

pub(super) struct PodSecurity;

impl Plugin for PodSecurity {
    fn validate(&self, write: &Attempt<'_>, object: &Value) -> Result<(), Status> {
        if write.is("", "Namespace") {
            return namespace(write, object);
        }
        let Some(pod) = pod_of(write, object) else { return Ok(()) };
        let Some(namespace) = write.find("namespaces", None, write.namespace.unwrap_or_default())? else {
            return Ok(());
        };
        let enforced = Demand::of(&namespace, "enforce");
        if is_pod(write.names()) {
            let findings = enforced.findings(pod);
            if !findings.is_empty() {
                let why = format!("violates PodSecurity \"{}\": {}", enforced.shown, detailed(&findings));
                return Err(write.forbidden(object, &why));
            }
        }
        let warned = Demand::of(&namespace, "warn");
        let findings = warned.findings(pod);
        if !findings.is_empty() {
            let text = format!("would violate PodSecurity \"{}\": {}", warned.shown, detailed(&findings));
            write.told.extend(vec![text]);
        }
        Ok(())
    }
}

/// The new pod, or the template of pods, that an object is. Of a pod that is there, only containers for debugging can
/// come later; what else of it can change makes it no less secure.
fn pod_of<'a>(write: &Attempt<'_>, object: &'a Value) -> Option<&'a Value> {
    let names = write.names();
    let old = write.old;
    let (new, before) = match (names.group, names.kind) {
        ("", "Pod") => {
            let debugged = |old: &Value| old["spec"]["ephemeralContainers"] != object["spec"]["ephemeralContainers"];
            return old.is_none_or(debugged).then_some(object);
        }
        ("", "PodTemplate") => (&object["template"], old.map(|old| &old["template"])),
        ("batch", "CronJob") => {
            let template = |cron: &'a Value| &cron["spec"]["jobTemplate"]["spec"]["template"];
            return (template(object).is_object() && old.is_none_or(|old| old["spec"] != object["spec"]))
                .then(|| template(object));
        }
        ("", "ReplicationController") | ("apps" | "batch", _) => {
            (&object["spec"]["template"], old.map(|old| &old["spec"]["template"]))
        }
        _ => return None,
    };
    (new.is_object() && before != Some(new)).then_some(new)
}

/// Labels of a namespace must be levels and versions; who makes it stricter is told which pods do not comply.
fn namespace(write: &Attempt<'_>, object: &Value) -> Result<(), Status> {
    let mut errs = FieldErrors::default();
    let label = |object: &Value, name: &str| {
        object["metadata"]["labels"][format!("{PREFIX}{name}")].as_str().map(str::to_owned)
    };
    for mode in ["enforce", "audit", "warn"] {
        let path = |name: &str| format!("metadata.labels[{PREFIX}{name}]");
        if let Some(level) = label(object, mode).filter(|level| Level::parse(level).is_none()) {
            errs.invalid(path(mode), level, "must be one of privileged, baseline, restricted");
        }
        let name = format!("{mode}-version");
        if let Some(version) = label(object, &name).filter(|version| !is_version(version)) {
            errs.invalid(path(&name), version, "must be \"latest\" or \"v1.x\"");
        }
    }
    // What was there before stays possible.
    let unchanged = write.old.is_some_and(|old| old["metadata"]["labels"] == object["metadata"]["labels"]);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if !errs.is_empty() && !unchanged {
        return Err(Status::invalid(write.kind.names(), name, &errs));
    }
    let Some(old) = write.old else { return Ok(()) };
    let (before, now) = (Demand::of(old, "enforce"), Demand::of(object, "enforce"));
    if now.level > before.level {
        write.told.extend(existing(write, name, &now));
    }
    Ok(())
}

fn is_version(text: &str) -> bool {
    let minor = text.strip_prefix("v1.").filter(|minor| !minor.is_empty() && !minor.starts_with('0') || *minor == "0");
    text == "latest" || minor.is_some_and(|minor| minor.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Warnings about pods that are there already, a line for those with the same problems.
fn existing(write: &Attempt<'_>, namespace: &str, demand: &Demand) -> Vec<String> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in write.all("pods", Some(namespace)).iter().take(MOST_PODS) {
        let findings = demand.findings(pod);
        if !findings.is_empty() {
            let reasons: Vec<&str> = findings.iter().map(|finding| finding.reason.as_str()).collect();
            let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            groups.entry(reasons.join(", ")).or_default().push(name);
        }
    }
    if groups.is_empty() {
        return Vec::new();
    }
    let first = format!(
        "existing pods in namespace \"{namespace}\" violate the new PodSecurity enforce level \"{}\"",
        demand.shown
    );
    let mut lines: Vec<String> = groups
        .iter()
        .map(|(reasons, pods)| match pods.as_slice() {
            [one, _] => format!("{one} (and 1 other pod): {reasons}"),
            [one, _, _, ..] => format!("{one} (and {} other pods): {reasons}", pods.len() - 1),
            _ => format!("{}: {reasons}", pods.concat()),
        })
        .collect();
    lines.sort();
    lines.insert(0, first);
    lines
}

fn detailed(findings: &[Finding]) -> String {
    let show = |finding: &Finding| match finding.detail.as_str() {
        "" => finding.reason.clone(),
        detail => format!("{} ({detail})", finding.reason),
    };
    findings.iter().map(show).collect::<Vec<_>>().join(", ")
}
