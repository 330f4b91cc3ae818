//! Which nodes a pod or a volume may be on, by their labels and names.

use corten_api::api::core::v1 as core;

use super::labels::Test;
use super::{NodeFacts, hashed};

/// Alternatives, one of which must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeSelector(Vec<NodeTerm>);

/// Conditions, all of which must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeTerm {
    labels: Vec<Condition>,
    /// Conditions on the name, the only field there is.
    names: Vec<Test>,
    /// A condition that does not exist: nothing matches.
    broken: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    key: u64,
    text: String,
    test: LabelTest,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum LabelTest {
    Plain(Test),
    Above(i64),
    Below(i64),
}

impl NodeSelector {
    pub(crate) fn of(selector: &core::NodeSelector) -> Self {
        Self(selector.node_selector_terms.iter().map(NodeTerm::of).collect())
    }

    pub(crate) fn matches(&self, node: &NodeFacts) -> bool {
        self.0.iter().any(|term| term.matches(node))
    }

    /// The names (as hashes) to which the selector confines itself; `None` if some alternative leaves the name open.
    pub(crate) fn names(&self) -> Option<Vec<u64>> {
        let mut all = Vec::new();
        for term in &self.0 {
            let mut listed = term.names.iter().filter_map(|test| match test {
                Test::In(names) => Some(names.clone()),
                _ => None,
            });
            let mut names = listed.next()?;
            listed.for_each(|also| names.retain(|name| also.contains(name)));
            all.extend(names);
        }
        all.sort_unstable();
        all.dedup();
        Some(all)
    }
}

impl NodeTerm {
    pub(crate) fn of(term: &core::NodeSelectorTerm) -> Self {
        let (mut labels, mut names, mut broken) = (Vec::new(), Vec::new(), false);
        for requirement in term.match_expressions.iter().flatten() {
            match Condition::of(requirement) {
                Some(condition) => labels.push(condition),
                None => broken = true,
            }
        }
        for requirement in term.match_fields.iter().flatten() {
            let values = requirement.values.as_deref().unwrap_or_default();
            match Test::of(&requirement.operator, values).filter(|_| requirement.key == "metadata.name") {
                Some(test) => names.push(test),
                None => broken = true,
            }
        }
        Self { labels, names, broken }
    }

    pub(crate) fn matches(&self, node: &NodeFacts) -> bool {
        // A term without conditions matches nothing.
        !(self.broken || self.labels.is_empty() && self.names.is_empty())
            && self.labels.iter().all(|condition| condition.holds(node))
            && self.names.iter().all(|test| test.holds(Some(node.hash)))
    }
}

impl Condition {
    fn of(requirement: &core::NodeSelectorRequirement) -> Option<Self> {
        let values = requirement.values.as_deref().unwrap_or_default();
        let number = || values.first()?.parse().ok();
        let test = match requirement.operator.as_str() {
            "Gt" => LabelTest::Above(number()?),
            "Lt" => LabelTest::Below(number()?),
            operator => LabelTest::Plain(Test::of(operator, values)?),
        };
        Some(Self { key: hashed(&requirement.key), text: requirement.key.clone(), test })
    }

    fn holds(&self, node: &NodeFacts) -> bool {
        let number = || node.label_texts.get(&self.text)?.parse::<i64>().ok();
        match &self.test {
            LabelTest::Plain(test) => test.holds(node.labels.get(self.key)),
            LabelTest::Above(bound) => number().is_some_and(|own| own > *bound),
            LabelTest::Below(bound) => number().is_some_and(|own| own < *bound),
        }
    }
}
