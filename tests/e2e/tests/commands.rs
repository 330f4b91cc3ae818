//! The commands of `corten`, and how they refuse.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use corten_testkit::{Program, Sandbox};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::Value;

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
        sandbox.start()?;
        sandbox.kill()?;
        ensure!(sandbox.corten("status", NONE).output()?.code == 3);
        sandbox.start()?;
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
