//! The commands of `corten`, and how they refuse.

use std::fs;
use std::net::TcpListener;

use anyhow::{Context, Result, ensure};
use corten_testkit::Sandbox;
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

#[test]
fn a_cluster_that_runs_keeps_others_away_and_tells_of_itself() {
    check(|sandbox| {
        let status = sandbox.corten("status", NONE).output()?;
        ensure!(status.code == 3, "{}", status.all());
        sandbox.start()?;
        let said = sandbox.up().args(["--detach"]).fail()?;
        ensure!(said.contains(&format!("is running already, as process {}", sandbox.pid()?)), "{said}");
        let run = sandbox.folder().join("run2");
        let elsewhere = sandbox.up().args(["--api-port", "7443", "--node-port", "7444", "--run-dir"]).args([&run]);
        let said = elsewhere.fail()?;
        ensure!(said.contains("the argument '--run-dir <DIR>' cannot be used multiple times"), "{said}");

        // The node and its state are seen from any network namespace.
        let status: Value = serde_json::from_str(&sandbox.corten("status", ["-o", "json"]).run()?)?;
        ensure!(status["running"] == true && status["nodes"][0]["ready"] == true, "{status}");
        ensure!(status["apiServer"] == format!("https://{}:6443", sandbox.address()), "{status}");

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
