//! Numbers of the process itself, as the kernel tells them.

use std::fmt::Write;
use std::fs;

/// Ticks a second in /proc/PID/stat, which the kernel's interface fixes.
const TICKS: f64 = 100.0;

/// Appends what can be read; what cannot is left out.
pub(super) fn write(out: &mut String) {
    let mut number = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
    };
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program may hold anything; the numbers begin after its last bracket.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let field = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
    let cpu = field(11).zip(field(12)).map(|(user, system)| (user + system) / TICKS);
    number("process_cpu_seconds_total", "counter", "Time spent on processors, in seconds", cpu);
    let boot = fs::read_to_string("/proc/stat").ok().and_then(|text| {
        text.lines().find_map(|line| line.strip_prefix("btime ")).and_then(|text| text.trim().parse::<f64>().ok())
    });
    let start = field(19).zip(boot).map(|(ticks, boot)| boot + ticks / TICKS);
    number("process_start_time_seconds", "gauge", "When the process started, in seconds since 1970", start);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().split(' ').next()?.parse::<f64>().ok().map(|kilobytes| kilobytes * 1024.0)
    };
    number("process_resident_memory_bytes", "gauge", "Memory that is resident", kilobytes("VmRSS:"));
    number("process_virtual_memory_bytes", "gauge", "Memory that is mapped", kilobytes("VmSize:"));
    let open = fs::read_dir("/proc/self/fd").ok().and_then(|all| u32::try_from(all.count()).ok()).map(f64::from);
    number("process_open_fds", "gauge", "Open file descriptors", open);
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let most = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let most = most.and_then(|rest| rest.split_whitespace().next()).and_then(|text| text.parse().ok());
    number("process_max_fds", "gauge", "File descriptors that may be open", most);
}
