//! What a container may not do: capabilities, users, system calls.

use std::collections::BTreeMap;
use std::io;

use corten_shim::User;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use crate::sys::check;

const LAST_CAPABILITY: u32 = 63;
/// Version 3 of capset(2): two 32-bit words a set.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// Leaves only these capabilities in the bounding set, so that nothing executed later can have others.
pub(crate) fn bound(keep: &[u32]) -> io::Result<()> {
    for capability in (0..=LAST_CAPABILITY).filter(|capability| !keep.contains(capability)) {
        // SAFETY: no memory is involved. A capability that the kernel does not know is an error, and the last one.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } < 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::EINVAL) { Ok(()) } else { Err(error) };
        }
    }
    Ok(())
}

/// Gives this thread exactly these capabilities.
pub(crate) fn limit(keep: &[u32]) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let header = Header { version: CAPABILITY_VERSION, pid: 0 };
    let mut data = [Data::default(); 2];
    for capability in keep {
        let word = usize::try_from(capability / 32).unwrap_or(0).min(1);
        let bit = 1 << (capability % 32);
        data[word].effective |= bit;
        data[word].permitted |= bit;
    }
    // SAFETY: header and data have the layout of capset(2) for this version.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    check(i32::try_from(result).unwrap_or(-1)).map(drop)
}

/// A user as numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// Finds the user in the container's own /etc/passwd and /etc/group (this process is inside by now).
pub(crate) fn resolve(user: &User) -> Result<Ids, String> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let group = std::fs::read_to_string("/etc/group").unwrap_or_default();
    resolve_in(user, &passwd, &group)
}

fn resolve_in(user: &User, passwd: &str, group: &str) -> Result<Ids, String> {
    let lines = |text: &str| -> Vec<Vec<String>> {
        text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect()
    };
    let (passwd, group) = (lines(passwd), lines(group));
    let (own, own_group) = user.name.split_once(':').unwrap_or((&user.name, ""));
    let entry = |name: &str, uid: Option<u32>| {
        passwd.iter().find(|line| match uid {
            Some(uid) => line.get(2).is_some_and(|own| own == &uid.to_string()),
            None => line.first().is_some_and(|own| own == name),
        })
    };
    let number = |line: Option<&Vec<String>>, at: usize| line.and_then(|line| line.get(at)?.parse::<u32>().ok());
    let uid = match (user.uid, own) {
        (Some(uid), _) => uid,
        (None, "") => 0,
        (None, name) => match name.parse() {
            Ok(uid) => uid,
            Err(_) => number(entry(name, None), 2)
                .ok_or_else(|| format!("unable to find user {name}: no matching entries in passwd file"))?,
        },
    };
    let line = entry("", Some(uid));
    let gid = match (user.gid, own_group) {
        (Some(gid), _) => gid,
        (None, "") => number(line, 3).unwrap_or(0),
        (None, name) => match name.parse() {
            Ok(gid) => gid,
            Err(_) => {
                let found = group.iter().find(|line| line.first().is_some_and(|own| own == name));
                number(found, 2)
                    .ok_or_else(|| format!("unable to find group {name}: no matching entries in group file"))?
            }
        },
    };
    let name = line.and_then(|line| line.first().cloned()).unwrap_or_default();
    let member =
        |line: &&Vec<String>| line.get(3).is_some_and(|members| members.split(',').any(|member| member == name));
    let mut groups = user.groups.clone();
    groups.push(gid);
    if !name.is_empty() {
        groups.extend(group.iter().filter(member).filter_map(|line| number(Some(line), 2)));
    }
    groups.sort_unstable();
    groups.dedup();
    let home =
        line.and_then(|line| line.get(5).cloned()).filter(|home| !home.is_empty()).unwrap_or_else(|| "/".to_owned());
    Ok(Ids { uid, gid, groups, home })
}

/// Becomes the user.
pub(crate) fn switch(ids: &Ids) -> io::Result<()> {
    // SAFETY: the list and its length belong together.
    unsafe {
        check(libc::setgroups(ids.groups.len(), ids.groups.as_ptr()))?;
        check(libc::setresgid(ids.gid, ids.gid, ids.gid))?;
        check(libc::setresuid(ids.uid, ids.uid, ids.uid)).map(drop)
    }
}

/// Nothing executed later gains privileges by set-user-id files.
pub(crate) fn no_new_privileges() -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop)
}

/// System calls that change the machine rather than the container; refused with EPERM unless a capability that is kept
/// is about them.
const REFUSED: &[(libc::c_long, u32)] = &[
    (libc::SYS_mount, SYS_ADMIN),
    (libc::SYS_umount2, SYS_ADMIN),
    (libc::SYS_pivot_root, SYS_ADMIN),
    (libc::SYS_fsopen, SYS_ADMIN),
    (libc::SYS_fsconfig, SYS_ADMIN),
    (libc::SYS_fsmount, SYS_ADMIN),
    (libc::SYS_fspick, SYS_ADMIN),
    (libc::SYS_move_mount, SYS_ADMIN),
    (libc::SYS_open_tree, SYS_ADMIN),
    (libc::SYS_mount_setattr, SYS_ADMIN),
    (libc::SYS_setns, SYS_ADMIN),
    (libc::SYS_unshare, SYS_ADMIN),
    (libc::SYS_sethostname, SYS_ADMIN),
    (libc::SYS_setdomainname, SYS_ADMIN),
    (libc::SYS_swapon, SYS_ADMIN),
    (libc::SYS_swapoff, SYS_ADMIN),
    (libc::SYS_quotactl, SYS_ADMIN),
    (libc::SYS_lookup_dcookie, SYS_ADMIN),
    (libc::SYS_bpf, SYS_ADMIN),
    (libc::SYS_perf_event_open, SYS_ADMIN),
    (libc::SYS_fanotify_init, SYS_ADMIN),
    (libc::SYS_syslog, SYS_ADMIN),
    (libc::SYS_reboot, SYS_BOOT),
    (libc::SYS_kexec_load, SYS_BOOT),
    (libc::SYS_kexec_file_load, SYS_BOOT),
    (libc::SYS_init_module, SYS_MODULE),
    (libc::SYS_finit_module, SYS_MODULE),
    (libc::SYS_delete_module, SYS_MODULE),
    (libc::SYS_settimeofday, SYS_TIME),
    (libc::SYS_clock_settime, SYS_TIME),
    (libc::SYS_acct, SYS_PACCT),
    (libc::SYS_open_by_handle_at, DAC_READ_SEARCH),
    (libc::SYS_vhangup, SYS_TTY_CONFIG),
    (libc::SYS_keyctl, NEVER),
    (libc::SYS_add_key, NEVER),
    (libc::SYS_request_key, NEVER),
    (libc::SYS_userfaultfd, NEVER),
    (libc::SYS_move_pages, NEVER),
    (libc::SYS_mbind, SYS_NICE),
    (libc::SYS_set_mempolicy, SYS_NICE),
    (libc::SYS_io_uring_setup, NEVER),
    (libc::SYS_io_uring_enter, NEVER),
    (libc::SYS_io_uring_register, NEVER),
];

const DAC_READ_SEARCH: u32 = 2;
const SYS_MODULE: u32 = 16;
const SYS_PACCT: u32 = 20;
const SYS_ADMIN: u32 = 21;
const SYS_BOOT: u32 = 22;
const SYS_NICE: u32 = 23;
const SYS_TIME: u32 = 25;
const SYS_TTY_CONFIG: u32 = 26;
const NEVER: u32 = u32::MAX;

/// Flags of clone(2) that make namespaces.
const NEW_NAMESPACES: u64 = 0x7e02_0080;

/// Applies the default profile.
pub(crate) fn seccomp(capabilities: &[u32]) -> Result<(), String> {
    for program in profile(capabilities).map_err(|error| error.to_string())? {
        seccompiler::apply_filter(&program).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn profile(capabilities: &[u32]) -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED
        .iter()
        .filter(|(_, capability)| !capabilities.contains(capability))
        .map(|(call, _)| (*call, Vec::new()))
        .collect();
    let mut later = BTreeMap::new();
    if !capabilities.contains(&SYS_ADMIN) {
        let mut namespaces = Vec::new();
        for bit in (0..32).map(|bit| 1_u64 << bit).filter(|bit| NEW_NAMESPACES & bit != 0) {
            let condition = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(bit), bit)?;
            namespaces.push(SeccompRule::new(vec![condition])?);
        }
        rules.insert(libc::SYS_clone, namespaces);
        // Its flags are behind a pointer, where no filter sees them: callers fall back to clone.
        later.insert(libc::SYS_clone3, Vec::new());
    }
    let errno = |number: i32| SeccompAction::Errno(u32::try_from(number).unwrap_or(1));
    let refused = SeccompFilter::new(rules, SeccompAction::Allow, errno(libc::EPERM), arch)?;
    let unknown = SeccompFilter::new(later, SeccompAction::Allow, errno(libc::ENOSYS), arch)?;
    Ok(vec![refused.try_into()?, unknown.try_into()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:100:app:/home/app:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nextra:x:2000:app,other\n";

    #[test]
    fn users_are_found_by_name_and_number() {
        let check = |name: &str, uid, gid| {
            let user = User { name: name.to_owned(), uid, gid, groups: vec![7] };
            resolve_in(&user, PASSWD, GROUP).map(|ids| (ids.uid, ids.gid, ids.groups, ids.home))
        };
        assert_eq!(check("", None, None), Ok((0, 0, vec![0, 7], "/root".to_owned())));
        assert_eq!(check("app", None, None), Ok((1000, 100, vec![7, 100, 2000], "/home/app".to_owned())));
        assert_eq!(check("app:extra", None, None), Ok((1000, 2000, vec![7, 2000], "/home/app".to_owned())));
        assert_eq!(check("app", Some(5), Some(6)), Ok((5, 6, vec![6, 7], "/".to_owned())));
        assert_eq!(check("1234", None, None), Ok((1234, 0, vec![0, 7], "/".to_owned())));
        assert!(check("nobody", None, None).is_err());
    }

    #[test]
    fn the_profile_compiles() {
        assert_eq!(profile(&[]).expect("a profile").len(), 2);
    }
}
