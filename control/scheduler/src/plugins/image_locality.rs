//! A node that has the pod's images starts it sooner.

use crate::framework::{Cycle, MOST, Plugin, State};
use crate::model::NodeInfo;

const MEGABYTE: i64 = 1024 * 1024;
/// Less than this, for each container, is not worth a thought.
const LEAST: i64 = 23 * MEGABYTE;
/// More than this, for each container, counts no more.
const ENOUGH: i64 = 1000 * MEGABYTE;

pub(crate) struct ImageLocality;

/// Images that some node has, with the weight of each: its size, the less the fewer nodes have it, so that not all pods
/// go to the first node that has the image.
#[derive(Clone, Default)]
pub(crate) struct ImageState(Vec<(u64, i64)>);

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn before_score(&self, cycle: &Cycle<'_>, state: &mut State, _nodes: &[u32]) -> bool {
        let all = cycle.cache.len().max(1) as i64;
        let weight = |name: &u64| {
            let (size, nodes) = cycle.cache.image(*name)?;
            Some((*name, (size as f64 * (nodes as f64 / all as f64)) as i64))
        };
        state.images = ImageState(cycle.wants.images.iter().filter_map(weight).collect());
        !state.images.0.is_empty()
    }

    fn score(&self, cycle: &Cycle<'_>, state: &State, node: &NodeInfo) -> i64 {
        let has = |image: u64| node.facts.images.iter().any(|(own, _)| *own == image);
        let sum: i64 = state.images.0.iter().filter(|(image, _)| has(*image)).map(|(_, weight)| weight).sum();
        let most = ENOUGH * cycle.wants.images.len().max(1) as i64;
        MOST * (sum.clamp(LEAST, most) - LEAST) / (most - LEAST)
    }
}
