//! The scheduler: finds a node for every pod that has none.
//!
//! # How it works
//!
//! One task owns everything that decisions depend on. Shared caches say which objects have changed; the task takes in
//! their last state, changes its own [`cache`] step by step, takes the most important pod from the [`queue`], decides,
//! counts the pod on its node at once, and leaves the binding to others while it decides on. There are no locks, and
//! no copies of the cluster: a decision is a pure function of the cache, the pod and a seed.
//!
//! # What makes it quick
//!
//! - Labels, selectors and names are numbers; nodes are numbered slots.
//! - How many pods a selector selects on each node is counted as pods come and go (`cache::tallies`), by workload and
//!   not by pod; so are the affinity terms of pods (`cache::terms`). Spreading and affinity then add up one number a
//!   node, whatever the number of pods.
//! - Large clusters are searched only until enough feasible nodes were found, each time from where the last search
//!   ended.
//! - A pod that fits nowhere is tried again only when a plugin that objected says that a change may help.
//!
//! # Map
//!
//! | module | what |
//! |---|---|
//! | `model` | pods and nodes, trimmed, and how they are compared |
//! | `cache` | all of them, kept up to date |
//! | `framework` | what a plugin is |
//! | `plugins` | one file each; `PLUGINS` is the only list |
//! | `schedule` | the decision |
//! | `preempt` | whom to remove if it is negative |
//! | `queue` | who is next, and who waits for what |
//! | `core` | all of that together, without a network: changes in, decisions out |
//! | `decisions` | the reasons of the last decisions |
//! | `shell` | caches, bindings, statuses, events |
//!
//! Architecture invariants: nothing but the shell awaits or reads a clock; plugins are pure; a decision depends on
//! what is in the cache and not on how it came there.

mod cache;
mod config;
mod core;
mod decisions;
mod framework;
mod model;
mod plugins;
mod preempt;
mod queue;
mod schedule;
mod shell;
#[cfg(test)]
mod tests;

pub use config::{AddedAffinity, Config, DEFAULT_SCHEDULER, Profile, Scoring};
pub use decisions::{Decision, Decisions, Verdict};
pub use shell::run;
