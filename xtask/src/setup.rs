//! Installs what the machine lacks.

use std::process::Command;

use anyhow::Result;

use crate::run::{Cargo, has, run};

/// Programs that builds and tests call, and the Debian packages that bring them.
const PROGRAMS: [(&str, &str); 5] =
    [("gcc", "gcc"), ("ip", "iproute2"), ("nsenter", "util-linux"), ("xz", "xz-utils"), ("dpkg-deb", "dpkg")];

/// Installs Debian packages that are missing. Does nothing on a machine that has all.
pub(crate) fn machine() -> Result<()> {
    let missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !has(program)).map(|&(_, package)| package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    run(Command::new("apt-get").args(["update", "-q"]))?;
    let install = ["install", "-q", "-y", "--no-install-recommends"];
    run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(install).args(missing))
}

/// Installs a cargo subcommand that is missing.
pub(crate) fn cargo_tool(program: &str) -> Result<()> {
    if has(program) {
        return Ok(());
    }
    Cargo::new("install").args(["--locked", program]).run()
}
