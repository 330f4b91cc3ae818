//! Which tests need what a machine may lack. They are left out of the run, which nextest reports as skipped: a test that
//! returns early would count as passed.

use std::process::{Command, Stdio};

use crate::clients::Client;

/// Set where the machine has all: a test that would skip itself fails instead.
pub(crate) const MUST_RUN: &str = "CORTEN_MUST_RUN";

/// Test programs that make namespaces, all of their tests.
const PROGRAMS: &[(&str, &str)] = &[
    ("corten-e2e", "commands"),
    ("corten-e2e", "interrupt"),
    ("corten-e2e", "javascript"),
    ("corten-e2e", "kube_rs"),
    ("corten-e2e", "kubectl"),
    ("corten-e2e", "old_kubectl"),
    ("corten-e2e", "python"),
    ("corten-e2e", "scheduling"),
    ("corten-e2e", "schemathesis"),
    ("corten-e2e", "story"),
    ("corten-e2e", "volumes"),
    ("corten-e2e", "workloads"),
    ("corten-network", "links"),
    ("corten-network", "listing"),
    ("corten-network", "names"),
    ("corten-network", "services"),
    ("corten-runtime", "containers"),
];
/// Unit tests that mount, or make what only root can make.
const UNITS: &[(&str, &str)] = &[
    ("corten-agent", "all_in_a_volume_is_given_and_nothing_behind_a_link"),
    ("corten-agent", "memory_and_sub_paths_are_mounted_and_unmounted"),
    ("corten-agent", "nothing_is_deleted_through_a_mount_or_a_link"),
    ("corten-agent", "what_was_opened_stays_bound"),
    ("corten-image", "attributes_are_kept_but_not_those_of_overlayfs"),
    ("corten-image", "both_archive_formats_give_the_same_image"),
    ("corten-image", "files_folders_and_links_come_out_as_they_went_in"),
    ("corten-image", "imports_at_once_all_succeed"),
    ("corten-image", "no_entry_reaches_outside"),
    ("corten-image", "whiteouts_hide_other_layers_alone"),
    ("corten-image", "whiteouts_take_overlayfs_form"),
    ("corten-runtime", "the_kernel_holds_processes_to_the_program"),
];

/// Whether this process may make namespaces.
pub(crate) fn namespaces() -> bool {
    let mut probe = Command::new("unshare");
    probe.args(["--net", "--mount", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    has_root() && probe.status().is_ok_and(|status| status.success())
}

/// Whether this process is root. A folder of `/proc` belongs to whom its process runs as.
fn has_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// A nextest expression of all tests but those that this machine cannot run; says which and why.
pub(crate) fn expression(namespaces: bool, missing: &[&Client]) -> String {
    let mut without: Vec<String> = Vec::new();
    if !namespaces {
        eprintln!("skipped: tests that make namespaces or mounts, since this process may not (they need root)");
        without.extend(PROGRAMS.iter().map(|(package, program)| all_of(package, program)));
        without.extend(UNITS.iter().map(|(package, test)| format!("(package({package}) and test(/(^|::){test}$/))")));
    }
    for client in missing {
        eprintln!("skipped: tests with {}, which cannot be fetched", client.what);
        let tests = |(program, test): &(&str, &str)| some_of("corten-e2e", program, test);
        without.extend(client.tests.iter().map(tests));
    }
    if without.is_empty() { "all()".to_owned() } else { format!("not ({})", without.join(" or ")) }
}

/// All tests of a program. Without a word about tests, nextest would not even ask the program which it has, and would
/// not count them as skipped.
fn all_of(package: &str, program: &str) -> String {
    some_of(package, program, "^")
}

/// The tests of a program whose names match a regular expression.
fn some_of(package: &str, program: &str, tests: &str) -> String {
    format!("(package({package}) and binary({program}) and test(/{tests}/))")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::clients::CLIENTS;
    use crate::run::root;

    fn sources(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                found.push(fs::read_to_string(&path).expect("text"));
            }
        }
    }

    /// Names of the tests of a source whose own body, or a `root()` it calls, may skip.
    fn skipping(source: &str) -> Vec<String> {
        let mut found = Vec::new();
        for part in
            source.split("\n    fn ").flat_map(|part| part.split("\nfn ")).flat_map(|part| part.split("async fn "))
        {
            let name = part.split('(').next().unwrap_or_default();
            if (part.contains("\"skipped: needs root") || part.contains("if !root()")) && name != "root" {
                found.push(name.to_owned());
            }
        }
        found
    }

    #[test]
    fn every_unit_test_that_may_skip_is_known() {
        let crates = [
            ("corten-agent", "node/agent"),
            ("corten-image", "node/image"),
            ("corten-network", "node/network"),
            ("corten-runtime", "node/runtime"),
            ("corten-shim", "node/shim"),
        ];
        let mut there: Vec<(&str, String)> = Vec::new();
        for (package, folder) in crates {
            let mut all = Vec::new();
            sources(&root().join(folder).join("src"), &mut all);
            there.extend(all.iter().flat_map(|source| skipping(source)).map(|name| (package, name)));
        }
        there.sort();
        let known: Vec<(&str, String)> = UNITS.iter().map(|&(package, name)| (package, name.to_owned())).collect();
        assert_eq!(there, known);
    }

    #[test]
    fn every_test_program_that_may_skip_is_known() {
        let mut there: Vec<(&str, String)> = Vec::new();
        for (package, folder) in
            [("corten-e2e", "tests/e2e"), ("corten-network", "node/network"), ("corten-runtime", "node/runtime")]
        {
            for entry in fs::read_dir(root().join(folder).join("tests")).expect("a folder").flatten() {
                let name = entry.file_name().into_string().expect("a name");
                if name.ends_with(".rs") || entry.path().join("main.rs").exists() {
                    there.push((package, name.trim_end_matches(".rs").to_owned()));
                }
            }
        }
        there.sort();
        let known: Vec<(&str, String)> = PROGRAMS.iter().map(|&(package, name)| (package, name.to_owned())).collect();
        assert_eq!(there, known);
    }

    #[test]
    fn a_machine_that_has_all_runs_all() {
        assert_eq!(expression(true, &[]), "all()");
        let old = CLIENTS.first().expect("a client");
        let without = expression(true, &[old]);
        assert!(without.contains("(package(corten-e2e) and binary(old_kubectl) and test(/^/))"), "{without}");
        assert!(without.contains("binary(kubectl) and test(/^the_oldest_kubectl$/)"), "{without}");
        let without = expression(false, &[]);
        assert!(without.contains("(package(corten-runtime) and binary(containers) and test(/^/))"), "{without}");
        assert!(without.contains("test(/(^|::)no_entry_reaches_outside$/)"), "{without}");
    }
}
