//! NodeRestriction: a node writes its own objects, and of those only what is a node's to say.
//!
//! Which objects it may read and write at all is for `authorize::node`.
//!
//! Behaviour and wording: plugin/pkg/admission/noderestriction of Kubernetes v1.36.

mod nodes;
mod pods;
mod tokens;

use corten_api::status::Status;
use serde_json::Value;

use super::guards::Act;
use super::{Attempt, is};
use crate::authorize::Node;
use crate::verbs::Change;

const LEASES: &str = "kube-node-lease";

/// Refuses what a node may not do; anybody else passes.
pub(super) fn check(write: &Attempt<'_>, act: Act, new: Option<&Value>) -> Result<(), Status> {
    let Some(node) = Node::of(write.user) else { return Ok(()) };
    let own = Own { write, node: node.name, new: new.unwrap_or(&Value::Null) };
    if node.name.is_empty() {
        return own.refuse(format!("could not determine node from user {:?}", node.user));
    }
    let of = |group: &str, kind: &str| is(write.names(), group, kind);
    match act {
        // The server decides these.
        Act::Change(Change::Internal) => Ok(()),
        _ if of("", "Pod") => pods::check(&own, act),
        _ if of("", "Node") => nodes::check(&own, act),
        _ if of("", "PersistentVolumeClaim") => own.claim(act),
        Act::Post(_) if of("", "ServiceAccount") => tokens::check(&own),
        _ if of("coordination.k8s.io", "Lease") => own.lease(),
        _ if of("storage.k8s.io", "CSINode") => {
            own.named("can only access CSINode with the same name as the requesting node")
        }
        Act::Create if of("resource.k8s.io", "ResourceSlice") => own.slice(),
        _ => Ok(()),
    }
}

/// An act of a node.
struct Own<'a> {
    write: &'a Attempt<'a>,
    node: &'a str,
    /// What is to be there, or what was posted.
    new: &'a Value,
}

impl Own<'_> {
    fn old(&self) -> &Value {
        self.write.old.unwrap_or(&Value::Null)
    }

    fn refuse(&self, why: impl AsRef<str>) -> Result<(), Status> {
        Err(Status::forbidden(self.write.kind.names(), self.write.name, why.as_ref()))
    }

    fn demand(&self, good: bool, why: impl AsRef<str>) -> Result<(), Status> {
        if good { Ok(()) } else { self.refuse(why) }
    }

    fn named(&self, why: &str) -> Result<(), Status> {
        self.demand(self.write.name == self.node, why)
    }

    fn lease(&self) -> Result<(), Status> {
        let why = format!("can only access leases in the {LEASES:?} system namespace");
        self.demand(self.write.namespace == Some(LEASES), why)?;
        self.named("can only access node lease with the same name as the requesting node")
    }

    fn slice(&self) -> Result<(), Status> {
        let why = "can only create ResourceSlice with the same NodeName as the requesting node";
        self.demand(self.new["spec"]["nodeName"] == *self.node, why)
    }

    /// How large a volume is and how it is doing, its node tells.
    fn claim(&self, act: Act) -> Result<(), Status> {
        self.demand(act == Act::Change(Change::Status), "may only update PVC status")?;
        let rest = |claim: &Value| {
            let mut claim = claim.clone();
            if let Some(status) = claim["status"].as_object_mut() {
                for field in ["capacity", "conditions", "allocatedResources", "allocatedResourceStatuses"] {
                    status.shift_remove(field);
                }
            }
            claim
        };
        let why = format!(
            "node {:?} is not allowed to update fields other than status.capacity and status.conditions",
            self.node
        );
        self.demand(rest(self.old()) == rest(self.new), why)
    }
}
