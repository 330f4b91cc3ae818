//! The commands of `corten`, and how they refuse.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
<<<<<<< HEAD
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use corten_testkit::{Sandbox, eventually};
use serde_json::{Value, json};
=======
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use corten_testkit::{Program, Sandbox};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::Value;
>>>>>>> wt-tests2

const NONE: [&str; 0] = [];

fn check(test: fn(&Sandbox) -> Result<()>) {
    let Some(sandbox) = Sandbox::new() else { return };
    if let Err(error) = test(&sandbox) {
        panic!("{error:?}");
    }
}

/// One line, and nothing made.
fn refused(sandbox: &Sandbox, words: &[&str], why: &str) -> Result<()> {
    for detach in [&[][..], &["--detach"]] {
        let said = sandbox.up().args(words).args(detach).fail()?;
        ensure!(said.contains(why) && said.trim().lines().count() == 1, "{words:?}:\n{said}");
    }
    let left: Vec<String> = sandbox
        .leftovers()
        .into_iter()
        .filter(|left| !left.ends_with("/corten.lock") && !left.ends_with("/corten.pid"))
        .collect();
    ensure!(left.is_empty(), "{words:?} left {left:#?}");
    Ok(())
}

#[test]
fn what_cannot_work_is_refused_in_one_line_before_anything_is_made() {
    check(|sandbox| {
        let taken = sandbox.enter(|| TcpListener::bind(("0.0.0.0", 6443)).context("cannot take the port"))?;
        refused(
            sandbox,
            &[],
            "error: port 6443 of the API server is taken by another process: stop that one, or choose",
        )?;
        drop(taken);
        refused(sandbox, &["--node-port", "6443"], "error: --api-port and --node-port are both 6443")?;
        let other = sandbox.folder().join("other.conf");
        fs::write(&other, "apiVersion: v1\nkind: Config\ncurrent-context: production\n")?;
        let said = sandbox.corten("up", ["--kubeconfig"]).args([&other]).fail()?;
        ensure!(said.contains("is not a kubeconfig that corten wrote"), "{said}");
        ensure!(fs::read_to_string(&other)?.contains("production"));
        for words in [&["--log", "a=b=c"][..], &["--node-ip", "300.1.1.1"], &["--api-port", "0"]] {
            sandbox.up().args(words).fail()?;
        }
        Ok(())
    });
}

/// A disk of a size of its own, for as long as this lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(place: &Path, size: &str) -> Result<Self> {
        fs::create_dir_all(place)?;
        let size = std::ffi::CString::new(format!("size={size}"))?;
        mount("corten-test", place, "tmpfs", MountFlags::empty(), size.as_c_str()).context("cannot mount a disk")?;
        Ok(Self(place.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_is_named() {
    check(|sandbox| {
        let disk = SmallDisk::new(&sandbox.data_dir(), "32m")?;
        let said = sandbox.up().args(["--detach"]).fail()?;
        let wanted = format!("the disk of --data-dir {} has 3", sandbox.data_dir().display());
        ensure!(said.contains(&wanted) && said.contains(" MiB free, and at least 64 MiB are needed"), "{said}");
        ensure!(said.trim().lines().count() == 1, "{said}");
        drop(disk);
        let _disk = SmallDisk::new(&sandbox.data_dir(), "1m")?;
        let data = sandbox.data_dir().display().to_string();
        let image = sandbox.image("v1").display().to_string();
        let said = sandbox.corten_image(["import", &image, "--data-dir", &data]).fail()?;
        ensure!(said.to_lowercase().contains("no space left on device"), "{said}");
        Ok(())
    });
}

#[test]
fn who_may_not_make_containers_is_told_so() {
    check(|sandbox| {
        let (data, run) = (sandbox.data_dir(), sandbox.run_dir());
        let up = |setpriv: &[&str]| {
            sandbox
                .inside(["setpriv"])
                .args(setpriv)
                .args([sandbox.program()])
                .args(["up", "--node-name", "node-1", "--cgroup-root", &format!("/{}", sandbox.name())])
                .args([OsStr::new("--kubeconfig"), sandbox.kubeconfig().as_os_str()])
                .args([OsStr::new("--data-dir"), data.as_os_str(), OsStr::new("--run-dir"), run.as_os_str()])
        };
        let lacks = "error: corten needs to run as root to make containers; this process lacks ";
        let said = up(&["--reuid", "65534", "--regid", "65534", "--clear-groups"]).fail()?;
        ensure!(said.trim() == format!("{lacks}CAP_SYS_ADMIN and CAP_NET_ADMIN"), "{said}");
        // Root of a container that was given no more than the usual.
        let said = up(&["--inh-caps", "-net_admin", "--bounding-set", "-net_admin"]).fail()?;
        ensure!(said.trim() == format!("{lacks}CAP_NET_ADMIN"), "{said}");
        ensure!(sandbox.leftovers().is_empty(), "{:#?}", sandbox.leftovers());
        Ok(())
    });
}

#[test]
fn a_cluster_that_runs_keeps_others_away_and_tells_of_itself() {
    check(|sandbox| {
        let status = sandbox.corten("status", NONE).output()?;
        ensure!(status.code == 3, "{}", status.all());
        sandbox.start()?;
        let said = sandbox.up().args(["--detach"]).fail()?;
        ensure!(said.contains(&format!("is running already, as process {}", sandbox.pid()?)), "{said}");

        // Nor can a second one with a run folder and ports of its own share the data.
        let (data, run) = (sandbox.data_dir(), sandbox.folder().join("run2"));
        let elsewhere = sandbox
            .inside([sandbox.program()])
            .args(["up", "--node-name", "node-2", "--api-port", "7443", "--node-port", "7444"])
            .args(["--cgroup-root", &format!("/{}", sandbox.name())])
            .args([OsStr::new("--kubeconfig"), sandbox.folder().join("second.conf").as_os_str()])
            .args([OsStr::new("--data-dir"), data.as_os_str(), OsStr::new("--run-dir"), run.as_os_str()]);
        let said = elsewhere.fail()?;
        let wanted = format!("--data-dir {} is in use by process {}", data.display(), sandbox.pid()?);
        ensure!(said.contains(&wanted), "{wanted:?} is missing in\n{said}");
        ensure!(!sandbox.folder().join("second.conf").exists(), "it wrote a kubeconfig");

        // The node and its state are seen from any network namespace: here from the machine's own.
        let run = sandbox.run_dir();
        let outside = Program::new([sandbox.program()]).args(["status", "-o", "json"]).args([
            OsStr::new("--data-dir"),
            data.as_os_str(),
            OsStr::new("--run-dir"),
            run.as_os_str(),
        ]);
        for program in [sandbox.corten("status", ["-o", "json"]), outside] {
            let status: Value = serde_json::from_str(&program.run()?)?;
            ensure!(status["running"] == true && status["nodes"][0]["ready"] == true, "{status}");
            ensure!(status["apiServer"] == format!("https://{}:6443", sandbox.address()), "{status}");
        }

        // A second start after a clean stop, and a third after a crash.
        sandbox.corten("down", NONE).run()?;
        ensure!(sandbox.corten("status", NONE).output()?.code == 3);
        ensure!(!sandbox.log().contains("ERROR"), "{}", sandbox.log());
        sandbox.start()?;
        sandbox.kill()?;
        ensure!(sandbox.corten("status", NONE).output()?.code == 3);
        sandbox.start()?;
        Ok(())
    });
}

/// `kill -9`, without waiting for the kernel to clear the process away.
fn strike(sandbox: &Sandbox) -> Result<()> {
    let pid = rustix::process::Pid::from_raw(sandbox.pid()?).context("no process id")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).context("cannot kill corten")
}

#[test]
fn commands_right_after_a_crash_do_not_meet_the_dying_process() {
    check(|sandbox| {
        for _ in 0..3 {
            sandbox.start()?;
            strike(sandbox)?;
            sandbox.start()?;
            strike(sandbox)?;
            sandbox.corten("down", NONE).run()?;
        }
        Ok(())
    });
}

#[test]
fn pods_that_lost_their_cluster_are_told_of_and_end_in_peace() {
    check(|sandbox| {
        sandbox.start()?;
        sandbox.import("v1")?;
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {
            "containers": [{"name": "c", "image": "localhost/testbox:v1"}],
        }});
        let apply = || sandbox.kubectl(["apply", "-f", "-"]).input(pod.to_string()).run();
        eventually("the pod is taken", Duration::from_secs(10), apply)?;
        sandbox.kubectl(["wait", "--for=condition=Ready", "pod/web", "--timeout=30s"]).run()?;
        sandbox.kill()?;
        let status = sandbox.corten("status", NONE).output()?;
        let wanted = "The cluster's process is gone, but 1 pod still runs.";
        ensure!(status.code == 3 && status.stdout.contains(wanted), "{}", status.all());
        let logs = fs::read_dir(sandbox.data_dir().join("agent/logs/pods")).context("no logs")?.flatten();
        let mut logs = logs.filter(|entry| entry.file_name().to_string_lossy().starts_with("default_web_"));
        let log = logs.next().context("no log of the pod")?.path().join("c/0.log");
        let said = sandbox.corten("down", NONE).run()?;
        ensure!(said.contains("was gone already; 1 pod still runs: ending"), "{said}");
        let text = fs::read_to_string(&log).with_context(|| log.display().to_string())?;
        ensure!(text.contains("testbox got SIGTERM"), "{text}");
        let said = sandbox.corten("down", NONE).run()?;
        ensure!(said.contains("no cluster was running") && said.contains("The data stays in"), "{said}");
        Ok(())
    });
}

#[test]
fn to_look_makes_nothing() {
    check(|sandbox| {
        let nowhere = sandbox.folder().join("nowhere");
        let data = nowhere.display().to_string();
        let list = sandbox.corten_image(["ls", "--data-dir", &data]).run()?;
        ensure!(list.lines().count() == 1, "{list}");
        let run = sandbox.folder().join("no-run").display().to_string();
        let said = sandbox.inside([sandbox.program()]).args(["down", "--data-dir", &data, "--run-dir", &run]).run()?;
        ensure!(said.trim() == "no cluster was running", "{said}");
        ensure!(!nowhere.exists(), "{data} was made");
        Ok(())
    });
}

#[test]
fn a_full_disk_is_to_blame_for_what_it_does_not_take() {
    check(|sandbox| {
        let small = sandbox.folder().join("small");
        fs::create_dir_all(&small)?;
        let script = "mount -t tmpfs -o size=$1 none \"$2\" && exec \"$3\" image import --data-dir \"$2\" \"$4\"";
        for (size, wanted) in [("64k", "cannot write "), ("2m", "cannot unpack a layer into ")] {
            let said = sandbox
                .inside(["unshare", "--mount", "sh", "-c", script, "sh", size])
                .args([small.as_os_str(), sandbox.program().as_os_str(), sandbox.image("v1").as_os_str()])
                .fail()?;
            ensure!(said.contains(wanted) && said.contains("No space left on device"), "{said}");
        }
        Ok(())
    });
}

#[test]
fn images_are_imported_without_a_cluster() {
    check(|sandbox| {
        let said = sandbox.import("v1")?;
        ensure!(said.starts_with("localhost/testbox:v1 sha256:"), "{said}");
        let data = sandbox.data_dir().display().to_string();
        let image = |words: &[&str]| sandbox.corten_image(words).args(["--data-dir", &data]);
        let list = image(&["ls"]).run()?;
        ensure!(list.lines().count() == 2 && list.contains("localhost/testbox:v1"), "{list}");
        let list: Value = serde_json::from_str(&image(&["ls", "-o", "json"]).run()?)?;
        ensure!(list[0]["tags"][0] == "localhost/testbox:v1", "{list}");
        let missing = image(&["import", "/does/not/exist.tar"]).fail()?;
        ensure!(missing.starts_with("error: cannot import /does/not/exist.tar:"), "{missing}");
        let junk = image(&["import", "/etc/passwd"]).fail()?;
        ensure!(junk.starts_with("error: cannot import /etc/passwd:"), "{junk}");
        Ok(())
    });
}
