//! Who a pod and its containers run as, and what they may do.
//!
//! Wording: pkg/apis/core/validation of Kubernetes v1.36.

use std::collections::HashSet;

use corten_api::api::core::v1::{
    AppArmorProfile, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext, WindowsSecurityContextOptions,
};
use corten_api::field::{FieldErrors, Problem};
use corten_api::label;

use super::paths::descending;
use crate::selectors::invalid_json;

const USER_RANGE: &str = "must be between 0 and 2147483647, inclusive";
const NOT_ON_WINDOWS: &str = "cannot be set for a windows pod";

fn user(id: Option<i64>, path: &str, errs: &mut FieldErrors) {
    if let Some(id) = id.filter(|id| !(0..=i64::from(i32::MAX)).contains(id)) {
        errs.invalid(path, id, USER_RANGE);
    }
}

fn one_of(word: Option<&str>, known: &[&str], path: &str, errs: &mut FieldErrors) {
    if let Some(word) = word.filter(|word| !known.contains(word)) {
        errs.not_supported(path, word, known);
    }
}

/// The security of a container.
pub(super) fn container(context: &SecurityContext, host_users: Option<bool>, path: &str, errs: &mut FieldErrors) {
    let at = |field: &str| format!("{path}.{field}");
    user(context.run_as_user, &at("runAsUser"), errs);
    user(context.run_as_group, &at("runAsGroup"), errs);
    if let Some(mount) = &context.proc_mount {
        one_of(Some(mount), &["Default", "Unmasked"], &at("procMount"), errs);
        if mount == "Unmasked" && host_users != Some(false) {
            errs.invalid(at("procMount"), mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    if let Some(profile) = &context.seccomp_profile {
        seccomp(profile, &at("seccompProfile"), errs);
    }
    if context.allow_privilege_escalation == Some(false) {
        if context.privileged == Some(true) {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            invalid_json(errs, path, context, why);
        }
        let added = context.capabilities.as_ref().and_then(|capabilities| capabilities.add.as_ref());
        if added.into_iter().flatten().any(|capability| capability == "CAP_SYS_ADMIN") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            invalid_json(errs, path, context, why);
        }
    }
    if let Some(options) = &context.windows_options {
        windows(options, &at("windowsOptions"), errs);
    }
    if let Some(profile) = &context.app_armor_profile {
        app_armor(profile, &at("appArmorProfile"), errs);
    }
}

fn seccomp(profile: &SeccompProfile, path: &str, errs: &mut FieldErrors) {
    let (path, kind) = (format!("{path}.localhostProfile"), format!("{path}.type"));
    match (profile.type_.as_str(), profile.localhost_profile.as_deref()) {
        ("Localhost", None) => errs.required(path, "must be set when seccomp type is Localhost"),
        ("Localhost", Some(file)) => descending(file, &path, errs),
        (_, Some(file)) => errs.invalid(path, file, "can only be set when seccomp type is Localhost"),
        _ => {}
    }
    match profile.type_.as_str() {
        "" => errs.required(kind, "type is required when seccompProfile is set"),
        word => one_of(Some(word), &["Localhost", "RuntimeDefault", "Unconfined"], &kind, errs),
    }
}

fn app_armor(profile: &AppArmorProfile, path: &str, errs: &mut FieldErrors) {
    const MOST: usize = 4095;
    let (path, kind) = (format!("{path}.localhostProfile"), format!("{path}.type"));
    match (profile.type_.as_str(), profile.localhost_profile.as_deref()) {
        ("Localhost", None) => errs.required(path, "must be set when AppArmor type is Localhost"),
        ("Localhost", Some(name)) => {
            if name.trim() != name {
                errs.invalid(&path, name, "must not be padded with whitespace");
            } else if name.is_empty() {
                errs.required(&path, "must be set when AppArmor type is Localhost");
            }
            if name.len() > MOST {
                errs.push(path, Problem::TooLong(MOST));
            }
        }
        (_, Some(name)) => errs.invalid(path, name, "can only be set when AppArmor type is Localhost"),
        _ => {}
    }
    match profile.type_.as_str() {
        "" => errs.required(kind, "type is required when appArmorProfile is set"),
        word => one_of(Some(word), &["Localhost", "RuntimeDefault", "Unconfined"], &kind, errs),
    }
}

fn windows(options: &WindowsSecurityContextOptions, path: &str, errs: &mut FieldErrors) {
    const SPEC: usize = 64 << 10;
    if let Some(name) = &options.gmsa_credential_spec_name {
        let path = format!("{path}.gmsaCredentialSpecName");
        label::subdomain_problems(name).into_iter().for_each(|why| errs.invalid(&path, name, why));
    }
    if let Some(spec) = &options.gmsa_credential_spec {
        let path = format!("{path}.gmsaCredentialSpec");
        if spec.is_empty() {
            errs.invalid(path, spec, "gmsaCredentialSpec cannot be an empty string");
        } else if spec.len() > SPEC {
            errs.invalid(path, spec, format!("gmsaCredentialSpec size must be under {} KiB", SPEC >> 10));
        }
    }
    let Some(name) = &options.run_as_user_name else { return };
    let path = format!("{path}.runAsUserName");
    let (domain, user) = name.split_once('\\').map_or((None, name.as_str()), |(domain, user)| (Some(domain), user));
    if name.is_empty() {
        return errs.invalid(path, name, "runAsUserName cannot be an empty string");
    }
    if name.chars().any(char::is_control) {
        errs.invalid(&path, name, "runAsUserName cannot contain control characters");
    }
    if user.contains('\\') {
        return errs.invalid(path, name, "runAsUserName cannot contain more than one backslash");
    }
    if let Some(domain) = domain {
        if domain.is_empty() {
            errs.invalid(&path, name, "runAsUserName's Domain doesn't match the NetBIOS nor the DNS format");
        } else if domain.len() > 256 {
            errs.invalid(&path, name, "runAsUserName's Domain length must be under 256 characters");
        }
    }
    if user.is_empty() {
        errs.invalid(&path, name, "runAsUserName's User cannot be empty");
    } else if user.len() > 104 {
        errs.invalid(&path, name, "runAsUserName's User length must not be longer than 104 characters");
    }
    if !user.is_empty() && user.chars().all(|c| c == '.' || c == ' ') {
        errs.invalid(&path, name, "runAsUserName's User cannot contain only periods or spaces");
    }
    if user.contains(['"', '/', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        let why = r#"runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]"#;
        errs.invalid(&path, name, why);
    }
}

/// The security of a pod, and the host's namespaces that it shares.
pub(super) fn pod(spec: &PodSpec, path: &str, errs: &mut FieldErrors) {
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errs.invalid(format!("{path}.shareProcessNamespace"), true, why);
    }
    if spec.host_users == Some(false) {
        for (field, shared) in
            [("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc)]
        {
            if shared == Some(true) {
                errs.forbidden(format!("{path}.{field}"), "when `pod.Spec.HostUsers` is false");
            }
        }
    }
    let Some(context) = &spec.security_context else { return };
    let path = format!("{path}.securityContext");
    let at = |field: &str| format!("{path}.{field}");
    user(context.fs_group, &at("fsGroup"), errs);
    user(context.run_as_user, &at("runAsUser"), errs);
    user(context.run_as_group, &at("runAsGroup"), errs);
    for (index, group) in context.supplemental_groups.iter().flatten().enumerate() {
        user(Some(*group), &at(&format!("supplementalGroups[{index}]")), errs);
    }
    sysctls(context, spec, &at("sysctls"), errs);
    let change = context.fs_group_change_policy.as_deref();
    one_of(change, &["Always", "OnRootMismatch"], &at("fsGroupChangePolicy"), errs);
    let groups = context.supplemental_groups_policy.as_deref();
    one_of(groups, &["Merge", "Strict"], &at("supplementalGroupsPolicy"), errs);
    let linux = context.se_linux_change_policy.as_deref();
    one_of(linux, &["MountOption", "Recursive"], &at("seLinuxChangePolicy"), errs);
    if let Some(profile) = &context.seccomp_profile {
        seccomp(profile, &at("seccompProfile"), errs);
    }
    if let Some(options) = &context.windows_options {
        windows(options, &at("windowsOptions"), errs);
    }
    if let Some(profile) = &context.app_armor_profile {
        app_armor(profile, &at("appArmorProfile"), errs);
    }
}

/// On the host's network a port of the container is one of the host. Templates leave that open until they are pods.
pub(super) fn host_ports(spec: &PodSpec, path: &str, errs: &mut FieldErrors) {
    if spec.host_network != Some(true) {
        return;
    }
    for (index, container) in spec.containers.iter().enumerate() {
        for (at, port) in container.ports.iter().flatten().enumerate() {
            if port.host_port != Some(port.container_port) {
                let path = format!("{path}.containers[{index}].ports[{at}].containerPort");
                errs.invalid(path, port.container_port, "must match `hostPort` when `hostNetwork` is true");
            }
        }
    }
}

fn sysctls(context: &PodSecurityContext, spec: &PodSpec, path: &str, errs: &mut FieldErrors) {
    let mut names = HashSet::new();
    for (index, sysctl) in context.sysctls.iter().flatten().enumerate() {
        let field = format!("{path}[{index}].name");
        let name = sysctl.name.as_str();
        if name.is_empty() {
            errs.required(field, "");
        } else if !is_sysctl(name) {
            let why = r"must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*([a-z0-9][-_a-z0-9]*)?[a-z0-9](\*)?$";
            errs.invalid(field, name, why);
        } else {
            // Slashes and dots are the same, until the first of either says otherwise.
            let dotted = name.replace('/', ".");
            if !names.insert(dotted.clone()) {
                errs.duplicate(&field, name);
            }
            let ipc = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
            if spec.host_network == Some(true) && dotted.starts_with("net.") {
                errs.invalid(field, name, "may not be specified when 'hostNetwork' is true");
            } else if spec.host_ipc == Some(true) && ipc.iter().any(|prefix| dotted.starts_with(prefix)) {
                errs.invalid(field, name, "may not be specified when 'hostIPC' is true");
            }
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let part = |part: &str| {
        let bytes = part.as_bytes();
        bytes.first().is_some_and(|&byte| inner(byte))
            && bytes.last().is_some_and(|&byte| inner(byte))
            && bytes.iter().all(|&byte| inner(byte) || byte == b'-' || byte == b'_')
    };
    name.len() <= 253 && name.split(['.', '/']).all(part)
}

/// What an operating system lacks.
pub(super) fn system(spec: &PodSpec, path: &str, errs: &mut FieldErrors) {
    let Some(os) = &spec.os else { return };
    match os.name.as_str() {
        "" => errs.required(format!("{path}.os.name"), ""),
        "linux" => linux(spec, path, errs),
        "windows" => windows_pod(spec, path, errs),
        other => errs.not_supported(format!("{path}.os.name"), other, &["linux", "windows"]),
    }
}

/// The security contexts of all containers, with the path of each.
fn contexts<'a>(spec: &'a PodSpec, path: &'a str) -> impl Iterator<Item = (String, &'a SecurityContext)> {
    let lists = [("containers", Some(&spec.containers)), ("initContainers", spec.init_containers.as_ref())];
    lists.into_iter().flat_map(move |(list, containers)| {
        containers.into_iter().flatten().enumerate().filter_map(move |(index, container)| {
            let context = container.security_context.as_ref()?;
            Some((format!("{path}.{list}[{index}].securityContext"), context))
        })
    })
}

fn linux(spec: &PodSpec, path: &str, errs: &mut FieldErrors) {
    let why = "windows options cannot be set for a linux pod";
    if spec.security_context.as_ref().is_some_and(|context| context.windows_options.is_some()) {
        errs.forbidden(format!("{path}.securityContext.windowsOptions"), why);
    }
    for (path, context) in contexts(spec, path) {
        if context.windows_options.is_some() {
            errs.forbidden(format!("{path}.windowsOptions"), why);
        }
    }
}

fn windows_pod(spec: &PodSpec, path: &str, errs: &mut FieldErrors) {
    let mut forbid = |path: String, set: bool| {
        if set {
            errs.forbidden(path, NOT_ON_WINDOWS);
        }
    };
    forbid(format!("{path}.hostPID"), spec.host_pid == Some(true));
    forbid(format!("{path}.hostIPC"), spec.host_ipc == Some(true));
    forbid(format!("{path}.hostUsers"), spec.host_users.is_some());
    forbid(format!("{path}.shareProcessNamespace"), spec.share_process_namespace == Some(true));
    if let Some(context) = &spec.security_context {
        for (field, set) in [
            ("appArmorProfile", context.app_armor_profile.is_some()),
            ("seLinuxOptions", context.se_linux_options.is_some()),
            ("seccompProfile", context.seccomp_profile.is_some()),
            ("fsGroup", context.fs_group.is_some()),
            ("fsGroupChangePolicy", context.fs_group_change_policy.is_some()),
            ("sysctls", context.sysctls.as_ref().is_some_and(|sysctls| !sysctls.is_empty())),
            ("runAsUser", context.run_as_user.is_some()),
            ("runAsGroup", context.run_as_group.is_some()),
            ("supplementalGroups", context.supplemental_groups.is_some()),
            ("supplementalGroupsPolicy", context.supplemental_groups_policy.is_some()),
        ] {
            forbid(format!("{path}.securityContext.{field}"), set);
        }
    }
    for (path, context) in contexts(spec, path) {
        for (field, set) in [
            ("appArmorProfile", context.app_armor_profile.is_some()),
            ("seLinuxOptions", context.se_linux_options.is_some()),
            ("seccompProfile", context.seccomp_profile.is_some()),
            ("capabilities", context.capabilities.is_some()),
            ("readOnlyRootFilesystem", context.read_only_root_filesystem.is_some()),
            ("privileged", context.privileged.is_some()),
            ("allowPrivilegeEscalation", context.allow_privilege_escalation.is_some()),
            ("procMount", context.proc_mount.is_some()),
            ("runAsUser", context.run_as_user.is_some()),
            ("runAsGroup", context.run_as_group.is_some()),
        ] {
            forbid(format!("{path}.{field}"), set);
        }
    }
}
