//! The node agent's ports, each connected to the crate that does the work. Translation only.

mod images;
mod network;
mod runtime;

pub(crate) use images::Images;
pub(crate) use network::Network;
pub(crate) use runtime::Runtime;
