//! The node agent: what a kubelet does.

pub mod ports;
