//! A port of the host has one user.

use crate::cache::Cache;
use crate::framework::{Ahead, Change, Cycle, Plugin, Rejection, State};
use crate::model::{HostPort, NodeInfo, PodInfo};

pub(crate) struct NodePorts;

fn collide(one: &HostPort, other: &HostPort) -> bool {
    const ANY: &str = "0.0.0.0";
    one.port == other.port
        && one.protocol == other.protocol
        && (one.address == other.address || one.address == ANY || other.address == ANY)
}

fn any_collides(wanted: &[HostPort], taken: &[HostPort]) -> bool {
    wanted.iter().any(|wanted| taken.iter().any(|taken| collide(wanted, taken)))
}

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn before_filter(&self, cycle: &Cycle<'_>, _state: &mut State) -> Ahead {
        if cycle.pod.ports.is_empty() { Ahead::Skip } else { Ahead::Look }
    }

    fn filter(&self, cycle: &Cycle<'_>, _state: &State, node: &NodeInfo) -> Result<(), Rejection> {
        if any_collides(&cycle.pod.ports, &node.ports) {
            return Err(Rejection::for_now("node(s) didn't have free ports for the requested pod ports"));
        }
        Ok(())
    }

    fn heeds(&self, change: &Change<'_>) -> bool {
        matches!(change, Change::NodeCame(_) | Change::PodGone(_))
    }

    fn helps(&self, pod: &PodInfo, change: &Change<'_>, _cache: &Cache) -> bool {
        match change {
            Change::NodeCame(_) => true,
            Change::PodGone(gone) => any_collides(&pod.ports, &gone.ports),
            _ => false,
        }
    }
}
