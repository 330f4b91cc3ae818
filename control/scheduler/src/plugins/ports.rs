//! A port of the host has one user.

use crate::snapshot::{NodeInfo, PodInfo};

pub(crate) fn filter(pod: &PodInfo, node: &NodeInfo) -> Vec<String> {
    const ANY: &str = "0.0.0.0";
    let taken = |(protocol, address, port): &(String, String, i32)| {
        node.ports.iter().any(|(own_protocol, own_address, own)| {
            own == port && own_protocol == protocol && (own_address == address || own_address == ANY || address == ANY)
        })
    };
    if pod.ports.iter().any(taken) {
        return vec!["node(s) didn't have free ports for the requested pod ports".to_owned()];
    }
    Vec::new()
}
