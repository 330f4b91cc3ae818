//! What the packet filter's maps and sets hold, and what has to change in them.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::Ipv4Addr;

use crate::directory::Protocol;

/// A map or set of the packet filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SetId {
    /// Slots of all services that have the same number of endpoints (and stickiness), so that slots are even.
    Slots {
        /// Which traffic it redirects.
        front: Front,
        /// Number of endpoints.
        count: u32,
        /// Seconds for which a client sticks to its endpoint.
        affinity: Option<u32>,
    },
    /// Endpoints to which clients may still stick, by their tags.
    Sticky {
        /// Which traffic it redirects.
        front: Front,
        /// Seconds for which a client sticks to its endpoint.
        affinity: u32,
    },
    /// Pairs of a pod's address and itself: a pod that reaches itself through a service.
    Hairpin,
    /// Frontends outside of the service range that have no endpoint.
    Refused,
    /// Frontends for traffic from outside that has to go to an endpoint of this node, of which there is none.
    Dropped,
}

/// Which traffic a map redirects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Front {
    /// To cluster IPs.
    Internal,
    /// To node ports and external IPs; leaves with this node's address, so that the answer comes back here.
    External,
    /// The same from outside of the cluster, to endpoints of this node; keeps the client's address.
    ExternalLocal,
}

/// Where clients knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Frontend {
    /// The address; all zeroes stand for any address of this node.
    pub(crate) address: Ipv4Addr,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

/// Where an endpoint listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Target {
    pub(crate) address: Ipv4Addr,
    pub(crate) port: u16,
}

impl Target {
    /// What the packet filter remembers of the endpoint to which a client sticks. Should two endpoints of one service
    /// have the same, the clients of the second go on to the first: that moves them once, and they stick there.
    pub(crate) fn tag(self) -> u32 {
        u32::from(self.address) ^ u32::from(self.port) << 16
    }
}

/// The key of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Element {
    Slot(Frontend, u32),
    /// By tag.
    Sticky(Frontend, u32),
    Pair(Ipv4Addr),
    Frontend(Frontend),
}

/// The elements of a set; those of a map lead to a target.
pub(crate) type Elements = BTreeMap<Element, Option<Target>>;

/// An element that comes or goes.
pub(crate) type Change = (Element, Option<Target>);

/// All sets that depend on services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tables(pub(crate) BTreeMap<SetId, Elements>);

impl Tables {
    /// Adds an element. Whoever was first keeps a place that two services claim.
    pub(crate) fn add(&mut self, set: SetId, element: Element, target: Option<Target>) {
        self.0.entry(set).or_default().entry(element).or_insert(target);
    }

    /// The sets that rules look into by number of endpoints or stickiness.
    pub(crate) fn dispatched(&self) -> Vec<SetId> {
        self.0.keys().copied().filter(|id| matches!(id, SetId::Slots { .. } | SetId::Sticky { .. })).collect()
    }

    /// What leads from one state to another.
    pub(crate) fn changes_to(&self, new: &Self) -> Changes {
        let mut changes = Changes { rules: self.dispatched() != new.dispatched(), ..Changes::default() };
        let none = Elements::new();
        for (id, elements) in &new.0 {
            let old = self.0.get(id).unwrap_or(&none);
            if !self.0.contains_key(id) && is_dynamic(*id) {
                changes.new_sets.push(*id);
            }
            let missing = |(key, target): &(&Element, &Option<Target>)| old.get(*key) != Some(*target);
            let added: Vec<_> = elements.iter().filter(missing).map(|(key, target)| (*key, *target)).collect();
            let gone = |(key, target): &(&Element, &Option<Target>)| elements.get(*key) != Some(*target);
            let removed: Vec<_> = old.iter().filter(gone).map(|(key, target)| (*key, *target)).collect();
            changes.added.extend((!added.is_empty()).then_some((*id, added)));
            changes.removed.extend((!removed.is_empty()).then_some((*id, removed)));
        }
        for (id, elements) in self.0.iter().filter(|(id, _)| !new.0.contains_key(id)) {
            if is_dynamic(*id) {
                changes.gone_sets.push(*id);
            } else {
                changes.removed.push((*id, elements.iter().map(|(key, target)| (*key, *target)).collect()));
            }
        }
        changes
    }

    /// The ways through UDP services that exist here and no longer there: connections that are tracked on them would
    /// go on to send to an endpoint that is gone.
    pub(crate) fn lost_udp_ways(&self, new: &Self) -> HashSet<(Frontend, Target)> {
        let ways = |tables: &Self| -> HashSet<(Frontend, Target)> {
            let elements = tables.0.values().flatten();
            elements
                .filter_map(|(element, target)| match (element, target) {
                    (Element::Slot(frontend, _), Some(target)) if frontend.protocol == Protocol::Udp => {
                        Some((*frontend, *target))
                    }
                    _ => None,
                })
                .collect()
        };
        let new = ways(new);
        ways(self).into_iter().filter(|way| !new.contains(way)).collect()
    }
}

/// Whether a set comes and goes; the others are part of the table's frame.
fn is_dynamic(id: SetId) -> bool {
    matches!(id, SetId::Slots { .. } | SetId::Sticky { .. })
}

/// One transaction's worth of change, in the order in which it has to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) new_sets: Vec<SetId>,
    pub(crate) removed: Vec<(SetId, Vec<Change>)>,
    pub(crate) added: Vec<(SetId, Vec<Change>)>,
    /// Whether the rules that look into the sets have to be written anew.
    pub(crate) rules: bool,
    pub(crate) gone_sets: Vec<SetId>,
}

impl Changes {
    /// Nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Internal => "internal",
            Self::External => "external",
            Self::ExternalLocal => "external-local",
        })
    }
}

/// The name of the set in the kernel.
impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slots { front, count, affinity: None } => write!(f, "{front}-{count}"),
            Self::Slots { front, count, affinity: Some(seconds) } => write!(f, "{front}-{count}-sticky-{seconds}"),
            Self::Sticky { front, affinity } => write!(f, "{front}-sticky-{affinity}"),
            Self::Hairpin => f.write_str("hairpin"),
            Self::Refused => f.write_str("refused"),
            Self::Dropped => f.write_str("dropped"),
        }
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (protocol, port) = (self.protocol.name(), self.port);
        if self.address.is_unspecified() {
            write!(f, "node {protocol} {port}")
        } else {
            write!(f, "{} {protocol} {port}", self.address)
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.address, self.port)
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot(frontend, slot) => write!(f, "{frontend} #{slot}"),
            Self::Sticky(frontend, tag) => write!(f, "{frontend} {tag:#010x}"),
            Self::Pair(address) => write!(f, "{address}"),
            Self::Frontend(frontend) => write!(f, "{frontend}"),
        }
    }
}

impl fmt::Display for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, elements) in &self.0 {
            writeln!(f, "{id}")?;
            for (element, target) in elements {
                match target {
                    Some(target) => writeln!(f, "  {element} -> {target}")?,
                    None => writeln!(f, "  {element}")?,
                }
            }
        }
        Ok(())
    }
}
