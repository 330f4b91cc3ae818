//! What a check is, and words that they share.

use serde_json::Value;

use super::super::list;
use super::Level;

/// One rule of the standards.
pub(super) struct Check {
    /// The lowest level at which it counts.
    pub(super) level: Level,
    /// Whether a stricter check takes its place at the restricted level.
    pub(super) replaced: bool,
    /// What it finds in a pod or a template of one.
    pub(super) run: fn(&Value) -> Option<Finding>,
}

/// What is wrong.
pub(super) struct Finding {
    pub(super) reason: String,
    pub(super) detail: String,
}

impl Finding {
    pub(super) fn new(reason: &str, detail: String) -> Option<Self> {
        Some(Self { reason: reason.to_owned(), detail })
    }
}

/// All containers, in the order in which they are named.
pub(super) fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(|field| list(&pod["spec"], field))
}

/// Names of the containers for which something holds.
pub(super) fn named(pod: &Value, holds: impl Fn(&Value) -> bool) -> Vec<&str> {
    containers(pod).filter(|container| holds(container)).filter_map(|container| container["name"].as_str()).collect()
}

/// `"a", "b"`.
pub(super) fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ")
}

/// One word or the other.
pub(super) fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `container "a"` or `containers "a", "b"`.
pub(super) fn the(containers: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", containers.len()), quoted(containers))
}

/// `pod and container "a"`: who sets something.
pub(super) fn setters(pod: bool, containers: &[&str]) -> String {
    match (pod, containers.is_empty()) {
        (true, true) => "pod".to_owned(),
        (true, false) => format!("pod and {}", the(containers)),
        (false, _) => the(containers),
    }
}

/// Each word once, in order.
pub(super) fn distinct(mut words: Vec<&str>) -> Vec<&str> {
    words.sort_unstable();
    words.dedup();
    words
}

/// Whether the pod says that it runs on another system, where some rules mean nothing.
pub(super) fn is_windows(pod: &Value) -> bool {
    pod["spec"]["os"]["name"] == "windows"
}
