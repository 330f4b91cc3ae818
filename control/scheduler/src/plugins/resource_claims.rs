//! Devices by resource claims are not given out yet: a pod that asks for one waits, instead of running without it.

use crate::framework::{Ahead, Cycle, Plugin, Rejection, State};

pub(crate) struct DynamicResources;

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        "DynamicResources"
    }

    fn before_filter(&self, cycle: &Cycle<'_>, _state: &mut State) -> Ahead {
        if cycle.wants.has_resource_claims {
            return Ahead::Refuse(Rejection::for_good("pods with resource claims cannot be scheduled by this cluster"));
        }
        Ahead::Skip
    }
}
