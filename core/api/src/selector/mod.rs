//! Label and field selectors.
//!
//! Spec: <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>

mod fields;
mod labels;
mod nodes;
mod parse;

pub use fields::Fields;
pub use labels::Labels;
pub use nodes::selects_node;

/// Text that is no selector, in Kubernetes' wording.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseSelectorError(pub String);
