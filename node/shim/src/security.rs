//! Whom a container runs as, and what that user may.

use std::io::{self, Read};

use corten_shim::User;

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

/// Gives this thread exactly these capabilities, and nothing to inherit.
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
    // What a daemon's own daemon handed down this way would survive everything below.
    // SAFETY: no memory is involved.
    check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) })?;
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
    resolve_in(user, &small("/etc/passwd"), &small("/etc/group"))
}

/// The text of an ordinary file of the image. Anything else there (a pipe that never ends, a file of gigabytes) counts as
/// nothing: the shim waits for this.
fn small(path: &str) -> String {
    use std::os::unix::fs::OpenOptionsExt;
    const MOST: u64 = 1 << 20;
    let mut text = Vec::new();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    if let Ok(file) = file
        && file.metadata().is_ok_and(|meta| meta.is_file())
    {
        let _ = file.take(MOST).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn resolve_in(user: &User, passwd: &str, group: &str) -> Result<Ids, String> {
    let lines = |text: &str| -> Vec<Vec<String>> {
        text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect()
    };
    let (passwd, group) = (lines(passwd), lines(group));
    // The image's user counts only as long as the pod names none.
    let of_image = if user.uid.is_some() { "" } else { user.name.as_str() };
    let (own, own_group) = of_image.split_once(':').unwrap_or((of_image, ""));
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
        assert_eq!(check("app:extra", Some(5), None), Ok((5, 0, vec![0, 7], "/".to_owned())));
        assert_eq!(check("1234", None, None), Ok((1234, 0, vec![0, 7], "/".to_owned())));
        assert!(check("nobody", None, None).is_err());
    }
}
