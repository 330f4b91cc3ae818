//! What a pod must do and leave where hardening is demanded.

use serde_json::Value;

use super::super::list;
use super::Level;
use super::baseline::{added_capabilities, forbidden_seccomp, seccomp_kind};
use super::check::{Check, Finding, distinct, is_windows, named, plural, quoted, setters, the};

const fn check(run: fn(&Value) -> Option<Finding>) -> Check {
    Check { level: Level::Restricted, replaced: false, run }
}

pub(super) const ESCALATION: Check = check(escalation);
pub(super) const CAPABILITIES: Check = check(capabilities);
pub(super) const VOLUMES: Check = check(volumes);
pub(super) const NON_ROOT: Check = check(non_root);
pub(super) const USER: Check = check(user);
pub(super) const SECCOMP: Check = check(seccomp);

/// Sources whose bytes are the pod's or the cluster's, never the machine's.
const SOURCES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

fn escalation(pod: &Value) -> Option<Finding> {
    let bad = named(pod, |container| container["securityContext"]["allowPrivilegeEscalation"] != false);
    if is_windows(pod) || bad.is_empty() {
        return None;
    }
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", the(&bad));
    Finding::new("allowPrivilegeEscalation != false", detail)
}

fn capabilities(pod: &Value) -> Option<Finding> {
    if is_windows(pod) {
        return None;
    }
    let drops = |container: &Value| {
        list(&container["securityContext"]["capabilities"], "drop").iter().any(|capability| capability == "ALL")
    };
    let bad = named(pod, |container| !drops(container));
    let mut details = Vec::new();
    if !bad.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", the(&bad)));
    }
    details.extend(added_capabilities(pod, &["NET_BIND_SERVICE"]));
    if details.is_empty() { None } else { Finding::new("unrestricted capabilities", details.join("; ")) }
}

fn volumes(pod: &Value) -> Option<Finding> {
    fn source(volume: &Value) -> Option<&str> {
        let mut fields = volume.as_object()?.keys().map(String::as_str);
        fields.find(|field| *field != "name" && !SOURCES.contains(field))
    }
    let bad: Vec<&Value> = list(&pod["spec"], "volumes").iter().filter(|volume| source(volume).is_some()).collect();
    if bad.is_empty() {
        return None;
    }
    let names: Vec<&str> = bad.iter().filter_map(|volume| volume["name"].as_str()).collect();
    let sources = distinct(bad.iter().filter_map(|volume| source(volume)).collect());
    let detail = format!(
        "{} {} {} restricted volume {} {}",
        plural("volume", "volumes", names.len()),
        quoted(&names),
        plural("uses", "use", names.len()),
        plural("type", "types", sources.len()),
        quoted(&sources)
    );
    Finding::new("restricted volume types", detail)
}

fn non_root(pod: &Value) -> Option<Finding> {
    const REASON: &str = "runAsNonRoot != true";
    // Root in a user namespace of its own is nobody outside.
    if pod["spec"]["hostUsers"] == false {
        return None;
    }
    let set = |object: &Value| object["securityContext"]["runAsNonRoot"].as_bool();
    let own = set(&pod["spec"]);
    let bad = named(pod, |container| set(container) == Some(false));
    if own == Some(false) || !bad.is_empty() {
        let who = setters(own == Some(false), &bad);
        return Finding::new(REASON, format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    let silent = named(pod, |container| set(container).is_none());
    if own == Some(true) || silent.is_empty() {
        return None;
    }
    Finding::new(REASON, format!("pod or {} must set securityContext.runAsNonRoot=true", the(&silent)))
}

fn user(pod: &Value) -> Option<Finding> {
    if pod["spec"]["hostUsers"] == false {
        return None;
    }
    let root = |object: &Value| object["securityContext"]["runAsUser"] == 0;
    let (own, bad) = (root(&pod["spec"]), named(pod, root));
    if !own && bad.is_empty() {
        return None;
    }
    Finding::new("runAsUser=0", format!("{} must not set runAsUser=0", setters(own, &bad)))
}

fn seccomp(pod: &Value) -> Option<Finding> {
    const REASON: &str = "seccompProfile";
    if is_windows(pod) {
        return None;
    }
    let allowed = |kind: &str| ["RuntimeDefault", "Localhost"].contains(&kind);
    if let Some(detail) = forbidden_seccomp(pod, &allowed) {
        return Finding::new(REASON, detail);
    }
    let silent = named(pod, |container| seccomp_kind(container).is_none());
    if seccomp_kind(&pod["spec"]).is_some() || silent.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        the(&silent)
    );
    Finding::new(REASON, detail)
}
