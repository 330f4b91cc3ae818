//! What no pod may do that is not privileged.

use serde_json::Value;

use super::super::list;
use super::Level;
use super::check::{Check, Finding, containers, distinct, named, plural, quoted, setters, the};

const fn check(run: fn(&Value) -> Option<Finding>) -> Check {
    Check { level: Level::Baseline, replaced: false, run }
}

const fn replaced(run: fn(&Value) -> Option<Finding>) -> Check {
    Check { level: Level::Baseline, replaced: true, run }
}

pub(super) const APP_ARMOR: Check = check(app_armor);
pub(super) const CAPABILITIES: Check = replaced(capabilities);
pub(super) const HOST_NAMESPACES: Check = check(host_namespaces);
pub(super) const HOST_PATHS: Check = replaced(host_paths);
pub(super) const HOST_PORTS: Check = check(host_ports);
pub(super) const HOST_PROBES: Check = check(host_probes);
pub(super) const PRIVILEGED: Check = check(privileged);
pub(super) const PROC_MOUNT: Check = check(proc_mount);
pub(super) const SELINUX: Check = check(selinux);
pub(super) const SECCOMP: Check = replaced(seccomp);
pub(super) const SYSCTLS: Check = check(sysctls);
pub(super) const HOST_PROCESS: Check = check(host_process);

const DEFAULT_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const SELINUX_TYPES: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];
const APP_ARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

fn privileged(pod: &Value) -> Option<Finding> {
    let bad = named(pod, |container| container["securityContext"]["privileged"] == true);
    if bad.is_empty() {
        return None;
    }
    Finding::new("privileged", format!("{} must not set securityContext.privileged=true", the(&bad)))
}

fn host_namespaces(pod: &Value) -> Option<Finding> {
    let bad: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|field| pod["spec"][**field] == true)
        .map(|field| format!("{field}=true"))
        .collect();
    if bad.is_empty() { None } else { Finding::new("host namespaces", bad.join(", ")) }
}

fn host_paths(pod: &Value) -> Option<Finding> {
    let volumes = list(&pod["spec"], "volumes").iter().filter(|volume| volume["hostPath"].is_object());
    let bad: Vec<&str> = volumes.filter_map(|volume| volume["name"].as_str()).collect();
    if bad.is_empty() {
        return None;
    }
    Finding::new("hostPath volumes", format!("{} {}", plural("volume", "volumes", bad.len()), quoted(&bad)))
}

fn host_ports(pod: &Value) -> Option<Finding> {
    let ports = |container: &Value| -> Vec<i64> {
        let ports = list(container, "ports").iter().filter_map(|port| port["hostPort"].as_i64());
        ports.filter(|port| *port != 0).collect()
    };
    let bad = named(pod, |container| !ports(container).is_empty());
    if bad.is_empty() {
        return None;
    }
    let mut all: Vec<String> = containers(pod).flat_map(ports).map(|port| port.to_string()).collect();
    all.sort();
    all.dedup();
    let (uses, word) = (plural("uses", "use", bad.len()), plural("hostPort", "hostPorts", all.len()));
    Finding::new("hostPort", format!("{} {uses} {word} {}", the(&bad), all.join(", ")))
}

/// Probes and hooks must not reach for other hosts.
fn host_probes(pod: &Value) -> Option<Finding> {
    let hosts = |container: &Value| -> Vec<String> {
        let hooks = ["postStart", "preStop"].map(|hook| container["lifecycle"][hook].clone());
        let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|probe| container[probe].clone());
        let handlers = hooks.into_iter().chain(probes);
        let given = handlers.flat_map(|handler| {
            ["httpGet", "tcpSocket"].map(|way| handler[way]["host"].as_str().unwrap_or_default().to_owned())
        });
        given.filter(|host| !host.is_empty()).collect()
    };
    let bad = named(pod, |container| !hosts(container).is_empty());
    if bad.is_empty() {
        return None;
    }
    let all: Vec<String> = containers(pod).flat_map(hosts).collect();
    let all = distinct(all.iter().map(String::as_str).collect());
    let (uses, word) = (plural("uses", "use", bad.len()), plural("host", "hosts", all.len()));
    Finding::new("probe or lifecycle host", format!("{} {uses} probe or lifecycle {word} {}", the(&bad), quoted(&all)))
}

fn capabilities(pod: &Value) -> Option<Finding> {
    added_capabilities(pod, &DEFAULT_CAPABILITIES).and_then(|detail| Finding::new("non-default capabilities", detail))
}

/// Who adds a capability that is not among these.
pub(super) fn added_capabilities(pod: &Value, allowed: &[&str]) -> Option<String> {
    fn added<'a>(container: &'a Value, allowed: &[&str]) -> Vec<&'a str> {
        let added = list(&container["securityContext"]["capabilities"], "add").iter().filter_map(Value::as_str);
        added.filter(|capability| !allowed.contains(capability)).collect()
    }
    let bad = named(pod, |container| !added(container, allowed).is_empty());
    if bad.is_empty() {
        return None;
    }
    let all = distinct(containers(pod).flat_map(|container| added(container, allowed)).collect());
    Some(format!("{} must not include {} in securityContext.capabilities.add", the(&bad), quoted(&all)))
}

fn proc_mount(pod: &Value) -> Option<Finding> {
    // In a user namespace of its own a pod sees nothing there that is not its.
    if pod["spec"]["hostUsers"] == false {
        return None;
    }
    let unusual = |container: &Value| {
        container["securityContext"]["procMount"].as_str().filter(|mount| *mount != "Default").is_some()
    };
    let bad = named(pod, unusual);
    if bad.is_empty() {
        return None;
    }
    let mounts = containers(pod).filter(|container| unusual(container));
    let mounts = distinct(mounts.filter_map(|container| container["securityContext"]["procMount"].as_str()).collect());
    Finding::new("procMount", format!("{} must not set securityContext.procMount to {}", the(&bad), quoted(&mounts)))
}

fn app_armor(pod: &Value) -> Option<Finding> {
    let profile = |object: &Value| object["securityContext"]["appArmorProfile"]["type"] == "Unconfined";
    let own = profile(&pod["spec"]);
    let bad = named(pod, profile);
    let annotations: Vec<String> = pod["metadata"]["annotations"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.starts_with(APP_ARMOR_ANNOTATION))
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(_, value)| !(value.is_empty() || *value == "runtime/default" || value.starts_with("localhost/")))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    let mut details = Vec::new();
    if own || !bad.is_empty() {
        details.push(format!("{} must not set AppArmor profile type to \"Unconfined\"", setters(own, &bad)));
    }
    if !annotations.is_empty() {
        let word = plural("annotation", "annotations", annotations.len());
        details.push(format!("{word} {}", annotations.join(", ")));
    }
    if details.is_empty() {
        return None;
    }
    let count = usize::from(own || !bad.is_empty()) + annotations.len();
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", count);
    Finding::new(reason, details.join("; "))
}

fn selinux(pod: &Value) -> Option<Finding> {
    fn options(object: &Value) -> &Value {
        &object["securityContext"]["seLinuxOptions"]
    }
    fn text<'a>(options: &'a Value, field: &str) -> &'a str {
        options[field].as_str().unwrap_or_default()
    }
    let forbidden = |object: &Value| {
        let options = options(object);
        !SELINUX_TYPES.contains(&text(options, "type"))
            || !text(options, "user").is_empty()
            || !text(options, "role").is_empty()
    };
    let (own, bad) = (forbidden(&pod["spec"]), named(pod, forbidden));
    if !own && bad.is_empty() {
        return None;
    }
    let all: Vec<&Value> = std::iter::once(&pod["spec"]).chain(containers(pod)).map(options).collect();
    let types = distinct(all.iter().map(|options| text(options, "type")).collect());
    let types: Vec<&str> = types.into_iter().filter(|kind| !SELINUX_TYPES.contains(kind)).collect();
    let mut problems = Vec::new();
    if !types.is_empty() {
        problems.push(format!("{} {}", plural("type", "types", types.len()), quoted(&types)));
    }
    for field in ["user", "role"] {
        if all.iter().any(|options| !text(options, field).is_empty()) {
            problems.push(format!("{field} may not be set"));
        }
    }
    let detail =
        format!("{} set forbidden securityContext.seLinuxOptions: {}", setters(own, &bad), problems.join("; "));
    Finding::new("seLinuxOptions", detail)
}

fn seccomp(pod: &Value) -> Option<Finding> {
    let allowed = |kind: &str| ["RuntimeDefault", "Localhost"].contains(&kind);
    forbidden_seccomp(pod, &allowed).and_then(|detail| Finding::new("seccompProfile", detail))
}

/// The kind of a seccomp profile, if there is one.
pub(super) fn seccomp_kind(object: &Value) -> Option<&str> {
    object["securityContext"]["seccompProfile"]["type"].as_str()
}

/// Who sets a seccomp profile that is not allowed.
pub(super) fn forbidden_seccomp(pod: &Value, allowed: &dyn Fn(&str) -> bool) -> Option<String> {
    let wrong = |object: &Value| seccomp_kind(object).is_some_and(|kind| !allowed(kind));
    let (own, bad) = (wrong(&pod["spec"]), named(pod, wrong));
    if !own && bad.is_empty() {
        return None;
    }
    let all = std::iter::once(&pod["spec"]).chain(containers(pod)).filter_map(seccomp_kind);
    let kinds = distinct(all.filter(|kind| !allowed(kind)).collect());
    Some(format!("{} must not set securityContext.seccompProfile.type to {}", setters(own, &bad), quoted(&kinds)))
}

fn sysctls(pod: &Value) -> Option<Finding> {
    let names = list(&pod["spec"]["securityContext"], "sysctls").iter().filter_map(|sysctl| sysctl["name"].as_str());
    let bad: Vec<&str> = names.filter(|name| !SAFE_SYSCTLS.contains(name)).collect();
    if bad.is_empty() { None } else { Finding::new("forbidden sysctls", bad.join(", ")) }
}

fn host_process(pod: &Value) -> Option<Finding> {
    let is = |object: &Value| object["securityContext"]["windowsOptions"]["hostProcess"] == true;
    let (own, bad) = (is(&pod["spec"]), named(pod, is));
    if !own && bad.is_empty() {
        return None;
    }
    let detail = format!("{} must not set securityContext.windowsOptions.hostProcess=true", setters(own, &bad));
    Finding::new("hostProcess", detail)
}
