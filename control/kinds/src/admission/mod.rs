//! admissionregistration.k8s.io: who else is asked before a write.
//!
//! These are objects so far: webhooks are not called and expressions are not compiled yet.

mod bindings;
mod mutating_policies;
mod policies;
mod rules;
mod validating_policies;
mod webhooks;

pub(crate) use bindings::{MutatingBindings, ValidatingBindings};
pub(crate) use mutating_policies::MutatingPolicies;
pub(crate) use validating_policies::ValidatingPolicies;
pub(crate) use webhooks::{MutatingWebhooks, ValidatingWebhooks};
