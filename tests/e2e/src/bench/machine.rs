//! What a process costs, according to the kernel.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Proportional set size, MiB.
pub(super) fn pss(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss line")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().context("no number")?;
    Ok(kib / 1024.0)
}

/// Processor time used so far.
pub(super) fn cpu(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // After the name, which may hold anything, the fields are numbers; user and system time are the 14th and 15th.
    let fields = text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace()).context("no such line")?;
    let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs(1) * u32::try_from(ticks).context("too much")? / u32::try_from(per_second)?)
}

/// Processes whose program is a pod's shim below this folder.
pub(super) fn shims(folder: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_shim = |pid: &u32| {
        let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        program.starts_with(folder) && program.display().to_string().contains("/corten-shim-")
    };
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_shim).collect()
}
