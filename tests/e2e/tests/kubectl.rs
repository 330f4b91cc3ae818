//! Three unmodified kubectls, from the oldest that Debian has to the newest, through the sessions of `kubectl/`: every
//! command says what it says to a Kubernetes cluster.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use corten_e2e::golden::{self, Session};
use corten_testkit::Sandbox;

/// Commands that a version runs at least.
const COMMANDS: usize = 120;

#[test]
fn the_oldest_kubectl() {
    check("1.20", "CORTEN_KUBECTL_OLD");
}

#[test]
fn the_kubectl_of_a_stable_distribution() {
    check("1.32", "CORTEN_KUBECTL_STABLE");
}

#[test]
fn the_newest_kubectl() {
    check("new", "CORTEN_KUBECTL_NEW");
}

fn check(client: &str, variable: &str) {
    let Some(kubectl) = Sandbox::client(variable) else { return };
    let Some(sandbox) = Sandbox::new() else { return };
    if let Err(error) = sessions(&sandbox, client, &kubectl) {
        panic!("{error:?}");
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kubectl")
}

fn sessions(sandbox: &Sandbox, client: &str, kubectl: &Path) -> Result<()> {
    sandbox.import("v1")?;
    sandbox.import("v2")?;
    sandbox.start()?;
    let programs = sandbox.folder().join("programs");
    fs::create_dir_all(&programs)?;
    symlink(kubectl, programs.join("kubectl")).context("cannot link kubectl")?;
    let mut path = OsString::from(&programs);
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    let shell = |command: &str| {
        let script = format!("cd '{}' && {command}", folder().display());
        sandbox
            .inside(["sh", "-c", &script])
            .env("PATH", &path)
            .env("KUBECONFIG", sandbox.kubeconfig())
            .env("HOME", sandbox.folder())
            .env("TESTBOX", sandbox.testbox_program())
            .env("NO_PROXY", "*")
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
    };
    let mut files: Vec<PathBuf> = fs::read_dir(folder())?.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|kind| kind == "session"));
    files.sort();
    let (mut ran, mut pending, mut wrong, mut transcript) = (0, 0, Vec::new(), String::new());
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let outcome = golden::run(&Session::parse(&name, &text)?, client, shell)?;
        ran += outcome.ran;
        pending += outcome.pending;
        wrong.extend(outcome.wrong);
        transcript.push_str(&outcome.transcript);
    }
    let said = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kubectl-{client}.session"));
    fs::write(&said, transcript).with_context(|| said.display().to_string())?;
    eprintln!("kubectl {client}: {ran} commands, {pending} of them pending");
    ensure!(
        wrong.is_empty(),
        "{} of {ran} commands of kubectl {client} are wrong; all that was said is in {}\n\n{}",
        wrong.len(),
        said.display(),
        wrong.join("\n\n")
    );
    ensure!(ran >= COMMANDS, "kubectl {client} ran {ran} commands, fewer than {COMMANDS}");
    Ok(())
}
