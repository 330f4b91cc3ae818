//! Netlink, as little of it as this crate speaks: one encoder and one socket for routing, rules and connections.
//!
//! A socket belongs to the network namespace in which its thread was when it opened it, for good.

mod message;
mod socket;

pub(crate) use message::{Attributes, Batch, Message, attribute, attributes, u32_at};
pub(crate) use socket::{Socket, finish};
