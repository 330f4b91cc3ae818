//! What a sandbox leaves on the machine, found and removed by its exact name.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::program::Program;

use super::NETNS;

/// Links that the sandbox itself has.
const OWN_LINKS: [&str; 3] = ["lo", "eth0", "eth0-peer"];

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A name that nothing has, with its folder, which only root can look into.
pub(super) fn fresh() -> Result<String> {
    loop {
        let name = format!("corten-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        if make(&folder(&name))? {
            return Ok(name);
        }
    }
}

/// Whether it made the folder. Anybody can guess its name in /tmp, so that one that is there already is never used.
fn make(folder: &Path) -> Result<bool> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot make {}", folder.display())),
    }
}

pub(super) fn folder(name: &str) -> PathBuf {
    Path::new("/tmp").join(name)
}

/// Everything that carries the name, but the namespace itself and the sandbox's folder.
pub(super) fn find(name: &str) -> Vec<String> {
    let mut found: Vec<String> = processes(name).iter().map(|(pid, what)| format!("process {pid}: {what}")).collect();
    found.extend(mounts(name).iter().map(|place| format!("mount {}", place.display())));
    found.extend(cgroups(name).iter().map(|place| format!("cgroup {}", place.display())));
    found.extend(links(name).iter().map(|link| format!("link {link}")));
    found.extend(rules(name));
    for part in ["data", "run"] {
        let entries = fs::read_dir(folder(name).join(part)).into_iter().flatten().flatten();
        found.extend(entries.map(|entry| format!("file {}", entry.path().display())));
    }
    found
}

/// Processes in its cgroups, in its network namespace, or of its folder.
fn processes(name: &str) -> Vec<(i32, String)> {
    let namespace = fs::metadata(Path::new(NETNS).join(name)).map(|meta| meta.ino()).ok();
    let place = folder(name);
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|text| text.parse::<i32>().ok()) else { continue };
        let path = entry.path();
        let cgroup = fs::read_to_string(path.join("cgroup")).unwrap_or_default();
        let command = fs::read(path.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        let words: Vec<&str> = command.split('\0').collect();
        let program = fs::read_link(path.join("exe")).unwrap_or_default();
        let in_namespace =
            namespace.is_some() && fs::metadata(path.join("ns/net")).ok().map(|meta| meta.ino()) == namespace;
        let in_cgroup = cgroup
            .lines()
            .filter_map(|line| line.splitn(3, ':').nth(2))
            .any(|path| path.split('/').any(|part| part == name));
        // One that has ended and waits for init to notice is gone.
        let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
        if stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z')) {
            continue;
        }
        let own = pid.unsigned_abs() == std::process::id();
        if !own && (in_namespace || in_cgroup || is_of(&place, &program, &words)) {
            found.push((pid, words.join(" ").chars().take(120).collect()));
        }
    }
    found
}

/// Whether a process is one of this folder: its program lies in it, or it is a corten that was given a place in it. An
/// editor or a shell that has a file of it open is somebody's own.
fn is_of(folder: &Path, program: &Path, words: &[&str]) -> bool {
    let inside = |path: &Path| path.starts_with(folder) && path != folder;
    let corten = program.file_name().is_some_and(|name| name == "corten" || name == "corten (deleted)");
    let given = words.iter().any(|word| inside(Path::new(word.split_once('=').map_or(*word, |(_, value)| value))));
    inside(program) || words.first().is_some_and(|word| inside(Path::new(word))) || (corten && given)
}

fn mounts(name: &str) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let below = folder(name);
    let mut found: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|place| place.starts_with(&below))
        .collect();
    found.reverse();
    found
}

fn cgroups(name: &str) -> Vec<PathBuf> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let mut places: Vec<PathBuf> = hierarchies.map(|entry| entry.path().join(name)).collect();
    // On a machine with version 2 alone.
    places.push(Path::new("/sys/fs/cgroup").join(name));
    places.retain(|place| place.is_dir());
    places
}

/// What a program lists; if it cannot, that is a line as well, so that nobody takes it for nothing.
fn listed(what: &str, program: &Program) -> Vec<String> {
    match program.run() {
        Ok(text) => text.lines().map(str::to_owned).collect(),
        Err(error) => vec![format!("{what} that cannot be listed: {error:#}")],
    }
}

fn links(name: &str) -> Vec<String> {
    if !Path::new(NETNS).join(name).exists() {
        return Vec::new();
    }
    let lines = listed("links", &Program::new(["ip", "-n", name, "-br", "link"]));
    lines.into_iter().filter(|line| !OWN_LINKS.contains(&link_name(line))).collect()
}

/// The first word of a line, without the other end's name.
fn link_name(line: &str) -> &str {
    line.split([' ', '@']).next().unwrap_or_default()
}

/// Rules and routes.
fn rules(name: &str) -> Vec<String> {
    let namespace = Path::new(NETNS).join(name);
    if !namespace.exists() {
        return Vec::new();
    }
    let inside = |what: &str, words: &[&str]| {
        listed(what, &Program::new(["nsenter", &format!("--net={}", namespace.display())]).args(words))
    };
    let mut found = inside("rules", &["nft", "list", "tables"]);
    found.extend(inside("routes", &["ip", "route"]).into_iter().filter(|line| !line.contains("dev eth0")));
    found.iter().map(|line| format!("rule or route {}", line.trim())).collect()
}

/// Removes everything that carries the name, whatever state it is in.
pub(super) fn remove(name: &str) {
    for _ in 0..20 {
        let left = processes(name);
        if left.is_empty() {
            break;
        }
        for (pid, _) in left {
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    for place in mounts(name) {
        let _ = unmount(&place, UnmountFlags::DETACH);
    }
    for place in cgroups(name) {
        remove_cgroup(&place);
    }
    if Path::new(NETNS).join(name).exists() {
        let _ = Program::new(["ip", "netns", "del", name]).run();
    }
    // Never through a mount: then the folder stays, and the next sweep tries again.
    if mounts(name).is_empty() {
        let _ = fs::remove_dir_all(folder(name));
    }
}

fn remove_cgroup(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(place);
}

/// Removes what sandboxes of processes that no longer exist have left.
pub fn sweep() {
    let mut names: Vec<String> = Vec::new();
    for place in [NETNS, "/tmp", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"] {
        let entries = fs::read_dir(place).into_iter().flatten().flatten();
        names.extend(entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_dead(name)));
    }
    names.sort_unstable();
    names.dedup();
    names.iter().for_each(|name| remove(name));
}

/// Whether it is the name of a sandbox (`corten-<pid>-<number>`) whose maker is gone.
fn is_dead(name: &str) -> bool {
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
    let parts = name.strip_prefix("corten-").and_then(|rest| rest.split_once('-'));
    let pid = parts.and_then(|(pid, count)| number(count).and(number(pid)));
    pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sandboxes_of_dead_processes_are_swept() {
        assert!(is_dead("corten-4194305-0"));
        for other in ["corten", "corten-1", "corten-test-runtime-4194305-0", "corten-4194305-x", "other-4194305-0"] {
            assert!(!is_dead(other), "{other}");
        }
        assert!(!is_dead(&format!("corten-{}-0", std::process::id())));
    }

    #[test]
    fn a_tool_that_fails_hides_nothing() {
        let said = listed("rules", &Program::new(["sh", "-c", "echo no; exit 3"]));
        assert_eq!(said, ["rules that cannot be listed: sh -c echo no; exit 3 ended with 3:\nno"]);
        let said = listed("links", &Program::new(["/no/such/tool"])).join("");
        assert!(said.starts_with("links that cannot be listed: cannot run /no/such/tool"), "{said}");
        assert!(listed("links", &Program::new(["true"])).is_empty());
        assert_eq!(["lo  UNKNOWN", "veth1@if2  UP"].map(link_name), ["lo", "veth1"]);
    }

    #[test]
    fn a_folder_that_is_there_is_not_used() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = place.path().join("own");
        assert!(make(&folder).expect("made"));
        assert_eq!(fs::metadata(&folder).expect("there").mode() & 0o777, 0o700);
        assert!(!make(&folder).expect("known"));
        std::os::unix::fs::symlink("/", place.path().join("link")).expect("made");
        assert!(!make(&place.path().join("link")).expect("known"));
    }

    #[test]
    fn only_processes_of_the_folder_are_ended() {
        let of = |program: &str, words: &[&str]| is_of(Path::new("/tmp/corten-1-0"), Path::new(program), words);
        assert!(of("/tmp/corten-1-0/run/corten-shim-1 (deleted)", &["corten-shim", "a/b"]));
        assert!(of("/proc/self/exe", &["/tmp/corten-1-0/run/corten-shim-1"]));
        assert!(of("/work/corten", &["corten", "up", "--data-dir", "/tmp/corten-1-0/data"]));
        assert!(of("/work/corten (deleted)", &["corten", "up", "--data-dir=/tmp/corten-1-0/data"]));
        assert!(!of("/usr/bin/vim", &["vim", "/tmp/corten-1-0/run/corten.log"]));
        assert!(!of("/usr/bin/bash", &["bash", "-c", "tail -f /tmp/corten-1-0/run/corten.log"]));
        assert!(!of("/work/corten", &["corten", "up", "--data-dir", "/tmp/corten-1-01/data"]));
        assert!(!of("/usr/bin/sleep", &["sleep", "1"]));
    }
}
