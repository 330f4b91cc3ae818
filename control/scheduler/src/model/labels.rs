//! Labels and label selectors as numbers.

use std::collections::BTreeMap;

use corten_api::meta::LabelSelector;

use super::hashed;

/// The labels of an object: hashes of keys and values, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Labels(Box<[(u64, u64)]>);

impl Labels {
    pub(crate) fn of(labels: Option<&BTreeMap<String, String>>) -> Self {
        let pairs = labels.into_iter().flatten().map(|(key, value)| (hashed(key), hashed(value)));
        let mut pairs: Vec<(u64, u64)> = pairs.collect();
        pairs.sort_unstable();
        Self(pairs.into())
    }

    /// The value of a label.
    pub(crate) fn get(&self, key: u64) -> Option<u64> {
        // Objects have few labels: looking at each is quickest.
        self.0.iter().find(|(own, _)| *own == key).map(|(_, value)| *value)
    }
}

/// A label selector. `None` selects nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Selector(Option<Vec<(u64, Test)>>);

/// What is asked of a label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Test {
    In(Vec<u64>),
    NotIn(Vec<u64>),
    Exists,
    DoesNotExist,
}

impl Test {
    /// The test of an operator that all selectors know; `None` for one that they do not.
    pub(super) fn of(operator: &str, values: &[String]) -> Option<Self> {
        let values = || {
            let mut values: Vec<u64> = values.iter().map(|value| hashed(value)).collect();
            values.sort_unstable();
            values
        };
        match operator {
            "In" => Some(Self::In(values())),
            "NotIn" => Some(Self::NotIn(values())),
            "Exists" => Some(Self::Exists),
            "DoesNotExist" => Some(Self::DoesNotExist),
            _ => None,
        }
    }

    pub(super) fn holds(&self, value: Option<u64>) -> bool {
        match self {
            Self::In(values) => value.is_some_and(|value| values.contains(&value)),
            Self::NotIn(values) => value.is_none_or(|value| !values.contains(&value)),
            Self::Exists => value.is_some(),
            Self::DoesNotExist => value.is_none(),
        }
    }
}

impl Selector {
    /// Selects nothing.
    pub(crate) const NOTHING: Self = Self(None);

    /// A selector of the API; a missing one, or one with an operator that does not exist, selects nothing.
    pub(crate) fn of(selector: Option<&LabelSelector>) -> Self {
        let Some(selector) = selector else { return Self::NOTHING };
        let mut tests = Self::pairs(selector.match_labels.iter().flatten());
        for expression in selector.match_expressions.iter().flatten() {
            let Some(test) = Test::of(&expression.operator, expression.values.as_deref().unwrap_or_default()) else {
                return Self::NOTHING;
            };
            tests.push((hashed(&expression.key), test));
        }
        Self::sorted(tests)
    }

    /// What a map of labels selects: objects that have them all.
    pub(crate) fn of_map(map: &BTreeMap<String, String>) -> Self {
        Self::sorted(Self::pairs(map.iter()))
    }

    /// Whether nothing is asked for, so that everything is selected.
    pub(crate) fn is_everything(&self) -> bool {
        self.0.as_ref().is_some_and(Vec::is_empty)
    }

    /// What both select.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(own), Some(other)) => Self::sorted(own.into_iter().chain(other).collect()),
            _ => Self::NOTHING,
        }
    }

    /// Asks, for each of the keys that `labels` has, for the same value, or for another one.
    pub(crate) fn like(self, labels: &Labels, same: &[String], other: &[String]) -> Self {
        let Some(mut tests) = self.0 else { return self };
        let value = |key: &String| Some((hashed(key), labels.get(hashed(key))?));
        tests.extend(same.iter().filter_map(value).map(|(key, value)| (key, Test::In(vec![value]))));
        tests.extend(other.iter().filter_map(value).map(|(key, value)| (key, Test::NotIn(vec![value]))));
        Self::sorted(tests)
    }

    pub(crate) fn matches(&self, labels: &Labels) -> bool {
        self.0.as_ref().is_some_and(|tests| tests.iter().all(|(key, test)| test.holds(labels.get(*key))))
    }

    fn pairs<'a>(pairs: impl Iterator<Item = (&'a String, &'a String)>) -> Vec<(u64, Test)> {
        pairs.map(|(key, value)| (hashed(key), Test::In(vec![hashed(value)]))).collect()
    }

    /// Equal selectors are equal however they were written.
    fn sorted(mut tests: Vec<(u64, Test)>) -> Self {
        tests.sort_unstable();
        tests.dedup();
        Self(Some(tests))
    }
}
