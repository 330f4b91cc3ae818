//! Installs what the machine lacks.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::run::{Cargo, has, run};

/// Programs that builds and tests call, and the Debian packages that bring them.
const PROGRAMS: [(&str, &str); 6] = [
    ("gcc", "gcc"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("xz", "xz-utils"),
    ("dpkg-deb", "dpkg"),
];
/// Files that builds need. gcc alone only recommends the C library's headers.
const FILES: [(&str, &str); 1] = [("/usr/include/stdlib.h", "libc6-dev")];
/// What Python's environments need. Debian's python3 comes without.
const PYTHON: (&str, &str) = ("python3", "python3-venv");

/// Installs Debian packages that are missing. Does nothing on a machine that has all.
pub(crate) fn machine() -> Result<()> {
    let programs = PROGRAMS.iter().filter(|(program, _)| !has(program));
    let files = FILES.iter().filter(|(file, _)| !Path::new(file).exists());
    let python = (!has_venv()).then_some(&PYTHON);
    let missing: Vec<&str> = programs.chain(files).chain(python).map(|&(_, package)| package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    run(Command::new("apt-get").args(["update", "-q"]))?;
    let install = ["install", "-q", "-y", "--no-install-recommends"];
    run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(install).args(missing))
}

/// Whether Python can make environments.
fn has_venv() -> bool {
    let mut probe = Command::new(PYTHON.0);
    probe.args(["-c", "import ensurepip, venv"]).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

/// Installs a cargo subcommand that is missing.
pub(crate) fn cargo_tool(program: &str) -> Result<()> {
    if has(program) {
        return Ok(());
    }
    Cargo::new("install").args(["--locked", program]).run()
}
