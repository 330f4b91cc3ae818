//! TaintNodesByCondition: a new node takes no pods before it is found ready.

use corten_api::names::Names;
use corten_api::status::Status;
use serde_json::{Value, json};

use super::{Attempt, Plugin, append, is, list};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub(super) struct TaintNodesByCondition;

impl Plugin for TaintNodesByCondition {
    fn changes(&self, names: &Names) -> bool {
        is(names, "", "Node")
    }

    fn admit(&self, write: &Attempt<'_>, node: &mut Value) -> Result<(), Status> {
        let has = |taint: &Value| taint["key"] == NOT_READY && taint["effect"] == "NoSchedule";
        if write.old.is_none() && !list(&node["spec"], "taints").iter().any(has) {
            append(&mut node["spec"], "taints", json!({"key": NOT_READY, "effect": "NoSchedule"}));
        }
        Ok(())
    }
}
