//! Which capabilities a container keeps.

use crate::types::{ContainerSpec, Error, Result};

/// Names of all capabilities, by number.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Making device nodes, by number.
pub(crate) const MKNOD: u32 = 27;

/// What containerd gives a container that asks for nothing.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The capabilities a container keeps, by number. Those that this process lacks are left out: nobody can give them.
pub(crate) fn of(spec: &ContainerSpec) -> Result<Vec<u32>> {
    let all = |list: &[String]| list.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    let plain = |name: &str| name.to_uppercase().trim_start_matches("CAP_").to_owned();
    let mut kept: Vec<&str> = if spec.privileged || all(&spec.cap_add) {
        CAPABILITIES.to_vec()
    } else if all(&spec.cap_drop) {
        Vec::new()
    } else {
        DEFAULT.to_vec()
    };
    for name in spec.cap_add.iter().map(|name| plain(name)).filter(|name| name != "ALL") {
        let known = CAPABILITIES.iter().find(|own| **own == name);
        let known = known.ok_or_else(|| Error::new("CreateContainerError", format!("unknown capability {name:?}")))?;
        if !kept.contains(known) {
            kept.push(known);
        }
    }
    if !spec.privileged {
        kept.retain(|own| !spec.cap_drop.iter().any(|name| plain(name) == **own));
    }
    let own = rustix::thread::capabilities(None).map(|sets| sets.permitted.bits()).unwrap_or(u64::MAX);
    let numbers =
        CAPABILITIES.iter().zip(0_u32..).filter(|(name, number)| kept.contains(name) && own & (1 << number) != 0);
    Ok(numbers.map(|(_, number)| number).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        let at = |name: &str| CAPABILITIES.iter().position(|own| *own == name);
        assert_eq!(at("MKNOD"), Some(MKNOD as usize));
        assert_eq!((at("SYS_ADMIN"), at("SYSLOG"), at("CHECKPOINT_RESTORE")), (Some(21), Some(34), Some(40)));
    }
}
