//! What a plugin is.

use std::borrow::Cow;

use corten_client::Key;

use crate::cache::Cache;
use crate::config::Profile;
use crate::model::{NodeFacts, NodeInfo, PodInfo, Wants};
use crate::plugins::{ImageState, PodAffinityState, SpreadState, VolumeState};

/// The best score of a plugin.
pub(crate) const MOST: i64 = 100;

/// One attempt to place one pod.
#[derive(Clone, Copy)]
pub(crate) struct Cycle<'a> {
    pub(crate) cache: &'a Cache,
    pub(crate) profile: &'a Profile,
    pub(crate) pod: &'a PodInfo,
    pub(crate) wants: &'a Wants,
}

/// What plugins worked out before they look at nodes, and keep for when they do.
#[derive(Clone, Default)]
pub(crate) struct State {
    pub(crate) spread: SpreadState,
    pub(crate) pod_affinity: PodAffinityState,
    pub(crate) volumes: VolumeState,
    pub(crate) images: ImageState,
}

/// What a plugin says before any node is looked at.
pub(crate) enum Ahead {
    /// It has nothing to say about this pod.
    Skip,
    /// It wants to see each node.
    Look,
    /// Only nodes of these names (as hashes) come into question.
    LookAt(Vec<u64>),
    /// No node will do.
    Refuse(Rejection),
}

/// Why a pod cannot be on a node, or on any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// In upstream's words, for events and conditions.
    pub(crate) reasons: Vec<Cow<'static, str>>,
    /// More exactly, for those who ask for it.
    pub(crate) detail: Option<String>,
    /// Whether it would stay so even if other pods made room.
    pub(crate) final_: bool,
}

impl Rejection {
    /// Other pods could make room.
    pub(crate) fn for_now(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reasons: vec![reason.into()], detail: None, final_: false }
    }

    /// No matter what happens to other pods.
    pub(crate) fn for_good(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reasons: vec![reason.into()], detail: None, final_: true }
    }
}

/// A plugin: it filters nodes, or scores them, or both. All methods are pure.
pub(crate) trait Plugin: Sync {
    /// Its name in configuration and reasons.
    fn name(&self) -> &'static str;

    /// Looks at the pod before any node.
    fn before_filter(&self, _cycle: &Cycle<'_>, _state: &mut State) -> Ahead {
        Ahead::Skip
    }

    /// Whether the pod may be on the node.
    fn filter(&self, _cycle: &Cycle<'_>, _state: &State, _node: &NodeInfo) -> Result<(), Rejection> {
        Ok(())
    }

    /// Brings the state to where it would be if `pod` came to, or left, the node: preemption tries what would be.
    fn moved(&self, _cycle: &Cycle<'_>, _state: &mut State, _pod: &PodInfo, _node: &NodeInfo, _comes: bool) {}

    /// Looks at the nodes that came through all filters; whether it has scores to give.
    fn before_score(&self, _cycle: &Cycle<'_>, _state: &mut State, _nodes: &[u32]) -> bool {
        false
    }

    /// How good the node is, in any unit.
    fn score(&self, _cycle: &Cycle<'_>, _state: &State, _node: &NodeInfo) -> i64 {
        0
    }

    /// Brings the scores of `nodes` to the range from 0 to [`MOST`].
    fn normalize(&self, _state: &State, _nodes: &[u32], _scores: &mut [i64]) {}

    /// Whether changes of this kind can matter at all: asked once a change, not once a pod.
    fn heeds(&self, _change: &Change<'_>) -> bool {
        false
    }

    /// Whether a pod that this plugin rejected might be accepted after this change, which it heeds.
    fn helps(&self, _pod: &PodInfo, _change: &Change<'_>, _cache: &Cache) -> bool {
        false
    }
}

/// Something happened in the cluster.
pub(crate) enum Change<'a> {
    NodeCame(&'a NodeFacts),
    NodeChanged {
        old: &'a NodeFacts,
        new: &'a NodeFacts,
    },
    NodeGone(&'a NodeFacts),
    /// A pod is on a node, or has other labels there.
    PodCame(&'a PodInfo),
    /// A pod left its node, is about to, asks for less, or had other labels.
    PodGone(&'a PodInfo),
    /// A claim.
    Claim(&'a Key),
    /// Volumes, classes, limits of drivers.
    Storage,
    /// Labels of namespaces.
    Namespaces,
}

impl<'a> Change<'a> {
    /// The node as it is now, and as it was, if this is about a node that is there.
    pub(crate) fn node(&self) -> Option<(Option<&'a NodeFacts>, &'a NodeFacts)> {
        match self {
            Self::NodeCame(new) => Some((None, new)),
            Self::NodeChanged { old, new } => Some((Some(old), new)),
            _ => None,
        }
    }

    /// Whether this is about storage that the pod may use: its own claims, or anything that is not a claim.
    pub(crate) fn is_storage_of(&self, pod: &PodInfo) -> bool {
        match self {
            Self::Storage => true,
            Self::Claim(key) => {
                key.namespace == pod.key.namespace && pod.claims.iter().any(|claim| claim.name == key.name)
            }
            _ => false,
        }
    }

    /// Whether this is about a node for which `accepts` holds now and did not hold before.
    pub(crate) fn makes(&self, accepts: impl Fn(&NodeFacts) -> bool) -> bool {
        self.node().is_some_and(|(old, new)| accepts(new) && !old.is_some_and(&accepts))
    }
}

/// Brings scores to the range from 0 to [`MOST`] by the greatest of them; reversed if less is better.
pub(crate) fn normalize_by_greatest(scores: &mut [i64], reverse: bool) {
    let greatest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let share = if greatest == 0 { 0 } else { *score * MOST / greatest };
        *score = if reverse { MOST - share } else { share };
    }
}
