//! The scheduler: finds a node for every pod that has none.
//!
//! `snapshot` turns cached objects into what the decision needs; `schedule` decides, purely; this module's shell watches,
//! binds, tells why not, and tries again when something changes.

mod plugins;
mod schedule;
mod shell;
mod snapshot;
#[cfg(test)]
mod tests;

pub use shell::run;
