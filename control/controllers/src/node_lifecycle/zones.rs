//! How many nodes of each zone are well, and so how fast pods may move away from those that are not.
//!
//! Behaviour: handleDisruption in pkg/controller/nodelifecycle of Kubernetes v1.36.

use std::collections::HashMap;
use std::time::Duration;

use corten_api::api::core::v1::Node;
use kube::ResourceExt;
use tokio::time::Instant;

use super::plan::condition;

const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
/// Between two nodes whose pods move.
const PACE: Duration = Duration::from_secs(10);
/// The same in a large zone of which much is not well.
const SLOW_PACE: Duration = Duration::from_secs(100);
/// From how many nodes on a zone is large.
const LARGE: usize = 50;
/// The share of a zone, in percent, that is much.
const MUCH: usize = 55;

/// Whether the pods of a node that is not well may move away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    Now,
    Later(Duration),
    /// Not before more nodes are well.
    Never,
}

/// What is known of all nodes.
#[derive(Debug, Default)]
pub(super) struct Zones {
    nodes: HashMap<String, (String, bool)>,
    zones: HashMap<String, Zone>,
}

#[derive(Debug, Default)]
struct Zone {
    well: usize,
    unwell: usize,
    /// When the next node may be left, and which one was last.
    next: Option<(Instant, String)>,
}

/// How well a zone is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Normal,
    Partial,
    Full,
}

impl Zone {
    fn state(&self) -> State {
        let all = self.well + self.unwell;
        match (self.well, self.unwell) {
            (0, unwell) if unwell > 0 => State::Full,
            (_, unwell) if unwell > 2 && unwell * 100 >= all * MUCH => State::Partial,
            _ => State::Normal,
        }
    }

    /// The time between two nodes; `None` if none is left at all.
    fn pace(&self) -> Option<Duration> {
        match self.state() {
            State::Normal | State::Full => Some(PACE),
            State::Partial if self.well + self.unwell > LARGE => Some(SLOW_PACE),
            State::Partial => None,
        }
    }
}

fn zone_of(node: &Node) -> String {
    let label = |key| node.labels().get(key).map(String::as_str).unwrap_or_default();
    format!("{}/{}", label(REGION), label(ZONE))
}

impl Zones {
    /// Notes what became of a node. Returns the nodes that are not well, if what may become of these has changed.
    pub(super) fn note(&mut self, old: Option<&Node>, new: Option<&Node>) -> Vec<String> {
        let Some(name) = new.or(old).map(ResourceExt::name_any) else { return Vec::new() };
        let now = new.map(|node| (zone_of(node), condition(node, "Ready") == Some("True")));
        if self.nodes.get(&name) == now.as_ref() {
            return Vec::new();
        }
        let before = self.paces();
        if let Some((zone, well)) = self.nodes.remove(&name) {
            let zone = self.zones.entry(zone).or_default();
            *(if well { &mut zone.well } else { &mut zone.unwell }) -= 1;
        }
        if let Some((zone, well)) = now {
            let zone_entry = self.zones.entry(zone.clone()).or_default();
            *(if well { &mut zone_entry.well } else { &mut zone_entry.unwell }) += 1;
            self.nodes.insert(name, (zone, well));
        }
        self.zones.retain(|_, zone| zone.well + zone.unwell > 0);
        if self.paces() == before {
            return Vec::new();
        }
        self.nodes.iter().filter(|(_, (_, well))| !well).map(|(name, _)| name.clone()).collect()
    }

    fn all_are_lost(&self) -> bool {
        self.zones.values().all(|zone| zone.state() == State::Full)
    }

    fn paces(&self) -> (bool, HashMap<String, Option<Duration>>) {
        (self.all_are_lost(), self.zones.iter().map(|(name, zone)| (name.clone(), zone.pace())).collect())
    }

    /// Whether the pods of a node that is not well may move away now. Who is told so has used up its zone's turn.
    pub(super) fn may_move(&mut self, node: &Node, now: Instant) -> Leave {
        if self.all_are_lost() {
            return Leave::Never;
        }
        let name = node.name_any();
        let Some(zone) = self.zones.get_mut(&zone_of(node)) else { return Leave::Never };
        let Some(pace) = zone.pace() else { return Leave::Later(Duration::from_secs(3600)) };
        match &zone.next {
            Some((_, last)) if *last == name => Leave::Now,
            Some((next, _)) if *next > now => Leave::Later(*next - now),
            _ => {
                zone.next = Some((now + pace, name));
                Leave::Now
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, zone: &str, ready: bool) -> Node {
        let ready = if ready { "True" } else { "False" };
        let object = json!({"metadata": {"name": name, "labels": {ZONE: zone}}, "status": {"conditions": [{"type": "Ready", "status": ready}]}});
        serde_json::from_value(object).expect("a node")
    }

    /// So many nodes of a zone, of which so many are not well.
    fn zones(all: usize, unwell: usize) -> Zones {
        let mut zones = Zones::default();
        for number in 0..all {
            zones.note(None, Some(&node(&format!("n{number}"), "a", number >= unwell)));
        }
        zones
    }

    fn leaves(zones: &mut Zones, names: &[&str]) -> Vec<Leave> {
        let now = Instant::now();
        names.iter().map(|name| zones.may_move(&node(name, "a", false), now)).collect()
    }

    #[test]
    fn nodes_are_left_one_by_one_and_not_where_much_is_lost() {
        let wait = |seconds| Leave::Later(Duration::from_secs(seconds));
        assert_eq!(leaves(&mut zones(3, 1), &["n0"]), [Leave::Now]);
        assert_eq!(leaves(&mut zones(10, 2), &["n0", "n1", "n0"]), [Leave::Now, wait(10), Leave::Now]);
        assert_eq!(leaves(&mut zones(5, 3), &["n0"]), [wait(3600)], "60 % of a small zone");
        assert_eq!(leaves(&mut zones(6, 3), &["n0"]), [Leave::Now], "50 %");
        assert_eq!(leaves(&mut zones(3, 2), &["n0"]), [Leave::Now], "two are not many");
        assert_eq!(leaves(&mut zones(100, 60), &["n0", "n1"]), [Leave::Now, wait(100)]);
        assert_eq!(leaves(&mut zones(1, 1), &["n0"]), [Leave::Never], "nothing is well");
        let mut two = zones(2, 2);
        two.note(None, Some(&node("other", "b", true)));
        assert_eq!(leaves(&mut two, &["n0"]), [Leave::Now], "another zone is");
    }

    #[test]
    fn those_concerned_are_told_when_more_or_fewer_are_well() {
        let mut zones = zones(2, 1);
        assert_eq!(zones.note(Some(&node("n1", "a", true)), Some(&node("n1", "a", true))), Vec::<String>::new());
        let mut told = zones.note(Some(&node("n1", "a", true)), Some(&node("n1", "a", false)));
        told.sort();
        assert_eq!(told, ["n0", "n1"]);
        assert_eq!(zones.note(Some(&node("n1", "a", false)), None), Vec::<String>::new());
        assert_eq!(zones.note(None, Some(&node("n2", "a", true))), ["n0"]);
        assert_eq!(zones.note(Some(&node("n0", "a", false)), Some(&node("n0", "b", false))), ["n0"]);
    }
}
