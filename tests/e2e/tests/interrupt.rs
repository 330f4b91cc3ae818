//! The demo, stopped half way.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use corten_testkit::{Program, Sandbox, eventually};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn a_demo_that_is_interrupted_leaves_nothing() {
    // Where this can be made, so can the demo's own.
    let Some(_sandbox) = Sandbox::new() else { return };
    for signal in [Signal::INT, Signal::TERM] {
        if let Err(error) = interrupted(signal) {
            panic!("{signal:?}: {error:?}");
        }
    }
}

fn interrupted(signal: Signal) -> Result<()> {
    let quiet = |command: &mut Command| {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    };
    let mut demo = Program::new([env!("CARGO_BIN_EXE_demo")]).spawn(quiet)?;
    let name = format!("corten-{}-0", demo.id());
    let folder = std::path::Path::new("/tmp").join(&name);
    let started = eventually("its cluster runs", Duration::from_secs(30), || {
        ensure!(folder.join("admin.conf").exists(), "there is no kubeconfig");
        Ok(())
    });
    let pid = Pid::from_raw(demo.id().cast_signed()).context("no process id")?;
    kill_process(pid, signal).context("cannot send a signal")?;
    let ended = eventually("it ends", Duration::from_secs(60), || demo.try_wait()?.context("it still runs"));
    if ended.is_err() {
        let _ = demo.kill();
        let _ = demo.wait();
        corten_testkit::sweep();
    }
    started?;
    ensure!(ended?.code() == Some(1), "another end than expected");
    for place in [folder, std::path::Path::new("/run/netns").join(&name)] {
        ensure!(!place.exists(), "{} is left", place.display());
    }
    Ok(())
}
