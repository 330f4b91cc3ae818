//! What the machine is: read once, when the agent starts.

use std::fs;
use std::path::Path;

/// Facts about the machine that a node publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Logical processors that this process may use.
    pub(crate) cpus: i64,
    /// Bytes of memory.
    pub(crate) memory: i64,
    /// Bytes of the file system that holds the agent's data.
    pub(crate) storage: i64,
    /// `/etc/machine-id`.
    pub(crate) machine_id: String,
    /// SMBIOS UUID; the machine id where there is none.
    pub(crate) system_uuid: String,
    /// Changes with every boot.
    pub(crate) boot_id: String,
    /// Such as `6.18.0`.
    pub(crate) kernel: String,
    /// Such as `Debian GNU/Linux 12 (bookworm)`.
    pub(crate) os_image: String,
}

impl Machine {
    /// Looks at the machine. What cannot be found out stays empty.
    pub(crate) fn look(data_dir: &Path) -> Self {
        let line = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        let machine_id = line("/etc/machine-id");
        let system_uuid = Some(line("/sys/class/dmi/id/product_uuid")).filter(|uuid| !uuid.is_empty());
        Self {
            cpus: std::thread::available_parallelism().map_or(1, |cpus| i64::try_from(cpus.get()).unwrap_or(1)),
            memory: total_memory(&line("/proc/meminfo")),
            storage: size_of_disk(data_dir),
            system_uuid: system_uuid.unwrap_or_else(|| machine_id.clone()),
            machine_id,
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            os_image: pretty_name(&line("/etc/os-release")),
        }
    }
}

/// Bytes of the file system on which a folder is, or will be.
fn size_of_disk(folder: &Path) -> i64 {
    let stat = folder.ancestors().find_map(|place| rustix::fs::statvfs(place).ok());
    stat.map_or(0, |stat| i64::try_from(stat.f_blocks.saturating_mul(stat.f_frsize)).unwrap_or(i64::MAX))
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total_memory(meminfo: &str) -> i64 {
    let kib =
        meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.map_or(0, |kib: i64| kib * 1024)
}

/// `PRETTY_NAME` of `/etc/os-release`.
fn pretty_name(os_release: &str) -> String {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    value.map_or_else(|| "Linux".to_owned(), |value| value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_system_are_read() {
        assert_eq!(total_memory("MemFree: 3 kB\nMemTotal:       24 kB"), 24 * 1024);
        assert_eq!(pretty_name("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\""), "Debian GNU/Linux 12");
        let machine = Machine::look(Path::new("/a/folder/that/is/made/later"));
        assert!(machine.cpus > 0 && machine.memory > 0 && machine.storage > 0, "{machine:?}");
    }
}
