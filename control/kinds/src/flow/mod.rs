//! flowcontrol.apiserver.k8s.io: how requests share the API server.
//!
//! These are objects so far: requests are not queued by them.

mod flow_schemas;
mod levels;

pub(crate) use flow_schemas::FlowSchemas;
pub(crate) use levels::PriorityLevels;
