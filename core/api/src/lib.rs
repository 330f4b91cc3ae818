//! The vocabulary of Kubernetes: typed kinds, names of kinds, schema graph, codecs, patches,
//! selectors, quantities, `Status` answers and validation errors.
//!
//! Architecture invariant: no I/O, no clock, no async. Everything here is a function of its arguments.

pub mod apply;
pub mod codec;
pub mod cron;
pub mod field;
pub mod label;
pub mod names;
pub mod openapi;
pub mod patch;
pub mod placement;
pub mod protobuf;
pub mod quantity;
pub mod schema;
pub mod selector;
pub mod status;

pub use k8s_openapi;
pub use k8s_openapi::api;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
pub use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
