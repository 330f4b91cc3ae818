//! Gives every node its own range of pod addresses: a /24 of the cluster's.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use corten_api::api::core::v1::Node;
use corten_client::{Informer, Key, Next, Writes};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::context::{Context, Error, or_gone};

const PREFIX: u8 = 24;

pub(crate) async fn run(cx: Context) {
    let nodes = cx.informers.of::<Node>();
    let queue = cx.queue.clone();
    nodes.on_change(move |_, new| {
        if let Some(node) = new.filter(|node| range(node).is_none()) {
            queue.add(Key::of(node));
        }
    });
    nodes.synced().await;
    // One at a time: two nodes must not get the same range.
    cx.work(1, move |cx, key| sync(cx, nodes.clone(), key)).await;
}

fn range(node: &Node) -> Option<&str> {
    node.spec.as_ref()?.pod_cidr.as_deref().filter(|range| !range.is_empty())
}

/// The first range of the cluster's that nobody has.
fn plan((network, prefix): (Ipv4Addr, u8), taken: &HashSet<String>) -> Option<String> {
    let count = 1_u32.checked_shl(u32::from(PREFIX.checked_sub(prefix)?))?;
    let size = 1_u32 << (32 - PREFIX);
    (0..count)
        .map(|index| format!("{}/{PREFIX}", Ipv4Addr::from(u32::from(network) + index * size)))
        .find(|range| !taken.contains(range))
}

async fn sync(cx: Context, nodes: Informer<Node>, key: Key) -> Result<Next, Error> {
    let Some(node) = nodes.by_key(&key).filter(|node| range(node).is_none()) else { return Ok(Next::Wait) };
    let taken = nodes.list().iter().filter_map(|node| range(node).map(str::to_owned)).collect();
    let Some(range) = plan(cx.config.pod_range, &taken) else {
        tracing::error!(node = key.name, "no range of pod addresses is left: the node cannot run pods");
        return Ok(Next::Wait);
    };
    let patch = Patch::Merge(json!({"metadata": {"uid": node.uid()}, "spec": {"podCIDR": range, "podCIDRs": [range]}}));
    let mut writes = Writes::default();
    let patched = Api::<Node>::all(cx.client.clone()).patch(&key.name, &PatchParams::default(), &patch).await;
    or_gone(patched)?.iter().for_each(|node| writes.note(&nodes, node));
    writes.settle().await;
    Ok(Next::Wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_nodes_share_a_range() {
        let cluster = (Ipv4Addr::new(10, 42, 0, 0), 22);
        let mut taken = HashSet::new();
        for expected in ["10.42.0.0/24", "10.42.1.0/24", "10.42.2.0/24", "10.42.3.0/24"] {
            let range = plan(cluster, &taken).expect("one is left");
            assert_eq!(range, expected);
            taken.insert(range);
        }
        assert_eq!(plan(cluster, &taken), None);
    }
}
