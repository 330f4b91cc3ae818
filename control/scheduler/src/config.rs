//! What a scheduler is told: its profiles and their plugins.

use corten_api::api::core::v1 as core;
use corten_base::{Clock, Random};

use crate::decisions::Decisions;
use crate::model::{NodeSelector, NodeTerm};
use crate::plugins::PLUGINS;

/// The scheduler of pods that name none.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// What the scheduler is told.
pub struct Config {
    /// Time of day.
    pub clock: Clock,
    /// Decides among equals.
    pub random: Random,
    /// One for each `spec.schedulerName` that is served.
    pub profiles: Vec<Profile>,
    /// Where the reasons of decisions are kept.
    pub decisions: Decisions,
}

impl Config {
    /// The default profile alone.
    #[must_use]
    pub fn new(clock: Clock, random: Random) -> Self {
        Self { clock, random, profiles: vec![Profile::default()], decisions: Decisions::default() }
    }
}

/// How the pods of one `spec.schedulerName` are placed.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The scheduler's name in pods and events.
    pub name: String,
    /// Plugins that are left out, by name.
    pub disabled: Vec<String>,
    /// Weights of scores that differ from the default, by plugin.
    pub weights: Vec<(String, i64)>,
    /// How many percent of the nodes must be found feasible before the search ends; `None` for the default, which
    /// shrinks with the size of the cluster.
    pub percentage_of_nodes: Option<u32>,
    /// Node affinity that is added to that of every pod.
    pub added_affinity: AddedAffinity,
    /// How full nodes should be.
    pub scoring: Scoring,
    /// The resources that count for [`Scoring`], and their weights.
    pub scored_resources: Vec<(String, i64)>,
    /// The weight of a required affinity term of a pod on a node for pods that it selects.
    pub hard_affinity_weight: i64,
    /// Whether pods without constraints are spread by node and zone as far as possible.
    pub spread_by_default: bool,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            name: DEFAULT_SCHEDULER.to_owned(),
            disabled: Vec::new(),
            weights: Vec::new(),
            percentage_of_nodes: None,
            added_affinity: AddedAffinity::default(),
            scoring: Scoring::LeastAllocated,
            scored_resources: vec![("cpu".to_owned(), 1), ("memory".to_owned(), 1)],
            hard_affinity_weight: 1,
            spread_by_default: true,
        }
    }
}

impl Profile {
    /// Whether a plugin takes part.
    pub(crate) fn has(&self, plugin: &str) -> bool {
        !self.disabled.iter().any(|own| own == plugin)
    }

    /// The weight of each plugin's score, in the order of [`PLUGINS`].
    pub(crate) fn weights(&self) -> Vec<i64> {
        let of = |plugin: &str, default: i64| {
            let own = self.weights.iter().find(|(name, _)| name == plugin).map(|(_, weight)| *weight);
            if self.has(plugin) { own.unwrap_or(default) } else { 0 }
        };
        PLUGINS.iter().map(|(plugin, weight)| of(plugin.name(), *weight)).collect()
    }
}

/// Node affinity that a profile adds.
#[derive(Clone, Debug, Default)]
pub struct AddedAffinity {
    pub(crate) required: Option<NodeSelector>,
    pub(crate) preferred: Vec<(i64, NodeTerm)>,
}

impl AddedAffinity {
    /// Adds this to every pod of the profile.
    #[must_use]
    pub fn of(affinity: &core::NodeAffinity) -> Self {
        let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        Self {
            required: affinity.required_during_scheduling_ignored_during_execution.as_ref().map(NodeSelector::of),
            preferred: preferred.map(|term| (i64::from(term.weight), NodeTerm::of(&term.preference))).collect(),
        }
    }
}

/// How full nodes should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scoring {
    /// The emptier, the better.
    LeastAllocated,
    /// The fuller, the better.
    MostAllocated,
    /// By points of percent in use and score from 0 to 10, with straight lines between.
    RequestedToCapacityRatio(Vec<(i64, i64)>),
}
