//! cgroups of pods and containers, version 1 and 2, in whichever hierarchies the machine has mounted.
//!
//! `<root>/pods/<qos>/pod<uid>/<container>` in every hierarchy, so that kill, usage and "is it empty" work on both. A
//! value that a hierarchy refuses is logged, not fatal: a limit that cannot be set is no reason not to run.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::devices;
use crate::types::{Resources, Usage};

/// A mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hierarchy {
    /// Version 1, with these controllers.
    V1(PathBuf, Vec<String>),
    /// Version 2.
    V2(PathBuf),
}

impl Hierarchy {
    fn place(&self) -> &Path {
        match self {
            Self::V1(place, _) | Self::V2(place) => place,
        }
    }
}

/// All hierarchies, and our place in them.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    hierarchies: Vec<Hierarchy>,
    root: PathBuf,
}

/// Classes of service, as folders.
const CLASSES: [&str; 3] = ["guaranteed", "burstable", "besteffort"];

/// CPU quota is given per this many microseconds.
const PERIOD: u64 = 100_000;

impl Cgroups {
    /// Finds the hierarchies of this machine.
    pub(crate) fn find(root: &Path) -> io::Result<Self> {
        // Everything below is ours to kill: an empty root would be the whole machine.
        let parts = root.components().filter(|part| !matches!(part, Component::RootDir | Component::CurDir));
        if parts.clone().count() == 0 || !parts.into_iter().all(|part| matches!(part, Component::Normal(_))) {
            let message =
                format!("{:?} is no cgroup of corten's own; use one such as /corten", root.display().to_string());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(Self::parse(&fs::read_to_string("/proc/self/mountinfo")?, root))
    }

    fn parse(mountinfo: &str, root: &Path) -> Self {
        let hierarchies = mountinfo.lines().filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let place = PathBuf::from(left.split(' ').nth(4)?);
            let mut right = right.split(' ');
            let (kind, options) = (right.next()?, right.nth(1)?);
            match kind {
                "cgroup2" => Some(Hierarchy::V2(place)),
                "cgroup" => Some(Hierarchy::V1(place, options.split(',').map(str::to_owned).collect())),
                _ => None,
            }
        });
        let root = root.strip_prefix("/").unwrap_or(root).to_owned();
        Self { hierarchies: hierarchies.collect(), root }
    }

    /// A pod's folder below each hierarchy's mount.
    pub(crate) fn pod(&self, qos: &str, uid: &str) -> PathBuf {
        self.root.join("pods").join(qos.to_lowercase()).join(format!("pod{uid}"))
    }

    /// Makes a cgroup in all hierarchies and sets its limits; the `cgroup.procs` files by which to join it.
    pub(crate) fn make(&self, path: &Path, resources: &Resources) -> io::Result<Vec<PathBuf>> {
        let mut procs = Vec::new();
        for hierarchy in &self.hierarchies {
            let dir = hierarchy.place().join(path);
            match hierarchy {
                Hierarchy::V1(place, controllers) => {
                    make_dirs(place, path, |parent, dir| inherit_cpuset(parent, dir, controllers))?;
                    set_v1(&dir, controllers, resources);
                }
                Hierarchy::V2(place) => {
                    make_dirs(place, path, |parent, _| delegate(parent))?;
                    set_v2(&dir, resources);
                }
            }
            procs.push(dir.join("cgroup.procs"));
        }
        Ok(procs)
    }

    /// Keeps what is in a cgroup from the machine's devices; false if this machine cannot.
    pub(crate) fn restrict_devices(&self, path: &Path) -> bool {
        for hierarchy in &self.hierarchies {
            let dir = hierarchy.place().join(path);
            match hierarchy {
                Hierarchy::V1(_, controllers) if controllers.iter().any(|own| own == "devices") => {
                    // One rule a write. Made anew each time: the list would only grow otherwise.
                    let allowed =
                        || devices::ALLOWED.iter().try_for_each(|rule| fs::write(dir.join("devices.allow"), rule));
                    match fs::write(dir.join("devices.deny"), "a").and_then(|()| allowed()) {
                        Ok(()) => return true,
                        Err(error) => tracing::warn!(path = %dir.display(), %error, "cannot restrict devices"),
                    }
                }
                Hierarchy::V1(..) => {}
                // On a mixed machine version 1's controller may come later, but one of the two is enough.
                Hierarchy::V2(_) => match devices::restrict(&dir) {
                    Ok(()) => return true,
                    Err(error) => tracing::warn!(path = %dir.display(), %error, "cannot restrict devices"),
                },
            }
        }
        false
    }

    /// The file that counts OOM kills of a cgroup.
    pub(crate) fn oom_file(&self, path: &Path) -> Option<PathBuf> {
        let mut files = self.hierarchies.iter().map(|hierarchy| match hierarchy {
            Hierarchy::V1(place, _) => place.join(path).join("memory.oom_control"),
            Hierarchy::V2(place) => place.join(path).join("memory.events"),
        });
        files.find(|file| file.exists())
    }

    /// Kills every process of a cgroup and below.
    pub(crate) fn kill(&self, path: &Path) {
        for hierarchy in &self.hierarchies {
            let dir = hierarchy.place().join(path);
            if matches!(hierarchy, Hierarchy::V2(_)) && fs::write(dir.join("cgroup.kill"), "1").is_ok() {
                continue;
            }
            for dir in below(&dir) {
                let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
                for pid in
                    text.lines().filter_map(|line| line.parse::<i32>().ok().and_then(rustix::process::Pid::from_raw))
                {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
        }
    }

    /// Kills what is left in a cgroup and removes it, with all below. Blocks for as long as processes take to end.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        for attempt in 0..200_u32 {
            let mut left = false;
            for hierarchy in &self.hierarchies {
                for dir in below(&hierarchy.place().join(path)) {
                    left |= fs::remove_dir(&dir).is_err_and(|error| error.kind() != io::ErrorKind::NotFound);
                }
            }
            if !left {
                return Ok(());
            }
            self.kill(path);
            std::thread::sleep(Duration::from_millis(u64::from(attempt.min(20))));
        }
        Err(io::Error::other(format!("processes in the cgroup {} do not end", path.display())))
    }

    /// Removes everything of ours: all pods, and the root unless something else is in it.
    pub(crate) fn remove_all(&self) -> io::Result<()> {
        self.remove(&self.root.join("pods"))?;
        for hierarchy in &self.hierarchies {
            let _ = fs::remove_dir(hierarchy.place().join(&self.root));
        }
        Ok(())
    }

    /// The pods' folder, and one for each class of service.
    pub(crate) fn make_root(&self) -> io::Result<()> {
        for class in CLASSES {
            self.make(&self.root.join("pods").join(class), &Resources::default())?;
        }
        Ok(())
    }

    /// The cgroups of a pod whose class nobody remembers.
    pub(crate) fn of_pod(&self, uid: &str) -> [PathBuf; 3] {
        CLASSES.map(|class| self.pod(class, uid))
    }

    /// What a cgroup uses.
    pub(crate) fn usage(&self, path: &Path) -> Usage {
        let mut usage = Usage::default();
        let number = |file: PathBuf| fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let field = |file: PathBuf, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
        };
        for hierarchy in &self.hierarchies {
            let dir = hierarchy.place().join(path);
            let (cpu, memory, inactive) = match hierarchy {
                Hierarchy::V1(..) => (
                    number(dir.join("cpuacct.usage")),
                    number(dir.join("memory.usage_in_bytes")),
                    field(dir.join("memory.stat"), "total_inactive_file "),
                ),
                Hierarchy::V2(_) => (
                    field(dir.join("cpu.stat"), "usage_usec ").map(|micros| micros * 1000),
                    number(dir.join("memory.current")),
                    field(dir.join("memory.stat"), "inactive_file "),
                ),
            };
            if let Some(cpu) = cpu.filter(|&cpu| cpu > 0) {
                usage.cpu_nanos = cpu;
            }
            if let Some(memory) = memory {
                usage.memory_bytes = memory.saturating_sub(inactive.unwrap_or(0));
            }
        }
        usage
    }
}

/// Makes the folders of `path`; `prepare` sees each parent and child, from the first that was missing on.
fn make_dirs(place: &Path, path: &Path, prepare: impl Fn(&Path, &Path)) -> io::Result<()> {
    make_dir(place, &place.join(path), &prepare)
}

fn make_dir(place: &Path, dir: &Path, prepare: &dyn Fn(&Path, &Path)) -> io::Result<()> {
    let Some(parent) = dir.parent().filter(|_| dir != place) else { return Ok(()) };
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_dir(place, parent, prepare)?;
            return make_dir(place, dir, prepare);
        }
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        // One that is there may be half prepared, by a process that died.
        _ => prepare(parent, dir),
    }
    Ok(())
}

/// A new cpuset allows nothing until it is told; it gets what its parent has.
fn inherit_cpuset(parent: &Path, dir: &Path, controllers: &[String]) {
    if !controllers.iter().any(|own| own == "cpuset") {
        return;
    }
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let current = fs::read_to_string(dir.join(file)).unwrap_or_default();
        if current.trim().is_empty()
            && let Ok(value) = fs::read_to_string(parent.join(file))
        {
            let _ = fs::write(dir.join(file), value.trim());
        }
    }
}

/// Lets children of a version-2 cgroup have limits of their own.
fn delegate(parent: &Path) {
    let words = |file: &str| fs::read_to_string(parent.join(file)).unwrap_or_default();
    let (available, given) = (words("cgroup.controllers"), words("cgroup.subtree_control"));
    let wanted = available.split_whitespace().filter(|name| ["cpu", "memory", "pids", "cpuset", "io"].contains(name));
    for controller in wanted.filter(|name| !given.split_whitespace().any(|own| own == *name)) {
        let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

fn set(dir: &Path, file: &str, value: impl std::fmt::Display) {
    let path = dir.join(file);
    if let Err(error) = fs::write(&path, value.to_string()) {
        tracing::warn!(path = %path.display(), %value, %error, "cannot set a limit");
    }
}

fn set_v1(dir: &Path, controllers: &[String], resources: &Resources) {
    let has = |name: &str| controllers.iter().any(|own| own == name);
    if has("cpu") {
        if let Some(shares) = resources.cpu_shares {
            set(dir, "cpu.shares", shares);
        }
        if let Some(quota) = resources.cpu_quota {
            set(dir, "cpu.cfs_period_us", PERIOD);
            set(dir, "cpu.cfs_quota_us", quota);
        }
    }
    if has("memory")
        && let Some(limit) = resources.memory_limit
    {
        set(dir, "memory.limit_in_bytes", limit);
        // Memory and swap together, so that swap is no way around the limit. Absent where swap is not accounted.
        if dir.join("memory.memsw.limit_in_bytes").exists() {
            set(dir, "memory.memsw.limit_in_bytes", limit);
        }
    }
    if has("pids")
        && let Some(limit) = resources.pids_limit
    {
        set(dir, "pids.max", limit);
    }
}

fn set_v2(dir: &Path, resources: &Resources) {
    let available = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    let has = |name: &str| available.split_whitespace().any(|own| own == name);
    if has("cpu") {
        if let Some(shares) = resources.cpu_shares {
            set(dir, "cpu.weight", weight(shares));
        }
        if let Some(quota) = resources.cpu_quota {
            set(dir, "cpu.max", format!("{quota} {PERIOD}"));
        }
    }
    if has("memory")
        && let Some(limit) = resources.memory_limit
    {
        set(dir, "memory.max", limit);
        if dir.join("memory.swap.max").exists() {
            set(dir, "memory.swap.max", 0);
        }
        // All processes of a container end together when one is out of memory.
        set(dir, "memory.oom.group", 1);
    }
    if has("pids")
        && let Some(limit) = resources.pids_limit
    {
        set(dir, "pids.max", limit);
    }
}

/// Shares (2 to 262144) as a version-2 weight (1 to 10000), by the formula of the OCI runtimes.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// A folder and all below it, deepest first.
fn below(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.extend(below(&entry.path()));
        }
    }
    all.push(dir.to_owned());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of plain files where the kernel would have its own.
    fn fake(mounts: &[(&str, &str, &str)]) -> (tempfile::TempDir, Cgroups) {
        let dir = tempfile::tempdir().expect("a folder");
        let mut lines = String::new();
        for (place, kind, options) in mounts {
            let place = dir.path().join(place);
            fs::create_dir_all(&place).expect("made");
            lines.push_str(&format!("30 20 0:25 / {} rw - {kind} cgroup {options}\n", place.display()));
        }
        let cgroups = Cgroups::parse(&lines, Path::new("/corten"));
        (dir, cgroups)
    }

    const LIMITS: Resources =
        Resources { cpu_shares: Some(512), cpu_quota: Some(50_000), memory_limit: Some(1 << 20), pids_limit: Some(7) };

    #[test]
    fn version_1_gets_each_limit_in_its_controller() {
        let (dir, cgroups) =
            fake(&[("cpu", "cgroup", "rw,cpu"), ("memory", "cgroup", "rw,memory"), ("pids", "cgroup", "rw,pids")]);
        let path = cgroups.pod("Burstable", "u");
        let procs = cgroups.make(&path, &LIMITS).expect("made");
        assert_eq!(procs.len(), 3);
        let read = |file: &str| fs::read_to_string(dir.path().join(file)).expect("written");
        assert_eq!(read("cpu/corten/pods/burstable/podu/cpu.shares"), "512");
        assert_eq!(read("cpu/corten/pods/burstable/podu/cpu.cfs_quota_us"), "50000");
        assert_eq!(read("memory/corten/pods/burstable/podu/memory.limit_in_bytes"), "1048576");
        assert_eq!(read("pids/corten/pods/burstable/podu/pids.max"), "7");
    }

    #[test]
    fn version_2_gets_the_limits_it_controls() {
        let (dir, cgroups) = fake(&[("unified", "cgroup2", "rw")]);
        let path = cgroups.pod("Guaranteed", "u");
        let place = dir.path().join("unified").join(&path);
        fs::create_dir_all(&place).expect("made");
        fs::write(place.join("cgroup.controllers"), "cpu memory").expect("written");
        cgroups.make(&path, &LIMITS).expect("made");
        let read = |file: &str| fs::read_to_string(place.join(file)).ok();
        assert_eq!(read("cpu.max").as_deref(), Some("50000 100000"));
        assert_eq!(read("cpu.weight").as_deref(), Some("20"));
        assert_eq!(read("memory.max").as_deref(), Some("1048576"));
        assert_eq!(read("pids.max"), None, "it does not control that");
    }

    #[test]
    fn no_root_is_the_whole_machine() {
        for root in ["", "/", ".", "/.", "/..", "a/../..", "/../a"] {
            assert!(Cgroups::find(Path::new(root)).is_err(), "{root:?}");
        }
        for root in ["/corten", "corten", "/a/b"] {
            assert!(Cgroups::find(Path::new(root)).is_ok(), "{root:?}");
        }
    }

    #[test]
    fn version_1_lists_the_devices_that_are_allowed() {
        let (dir, cgroups) = fake(&[("devices", "cgroup", "rw,devices")]);
        let path = cgroups.pod("Burstable", "u");
        cgroups.make(&path, &LIMITS).expect("made");
        assert!(cgroups.restrict_devices(&path));
        let read = |file: &str| fs::read_to_string(dir.path().join("devices").join(&path).join(file)).expect("written");
        assert_eq!((read("devices.deny"), read("devices.allow")), ("a".to_owned(), "c 136:* rwm".to_owned()));
        let (_dir, none) = fake(&[("cpu", "cgroup", "rw,cpu")]);
        assert!(!none.restrict_devices(&path));
    }

    #[test]
    fn weights_span_the_range() {
        assert_eq!([2, 1024, 262_144].map(weight), [1, 39, 10_000]);
    }
}
