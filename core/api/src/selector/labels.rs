//! Label selectors: conditions on labels, all of which must hold.

use std::collections::BTreeMap;
use std::fmt;

use super::{ParseSelectorError, parse};
use crate::label;
use crate::meta::LabelSelector;

/// A parsed label selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    requirements: Vec<Requirement>,
    /// Selects nothing, whatever the requirements are: what a missing selector means.
    nothing: bool,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Requirement {
    key: String,
    operator: Operator,
    /// Sorted; what they mean depends on the operator.
    values: Vec<String>,
}

/// What a condition asks of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equals,
    DoubleEquals,
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

impl Labels {
    /// Parses `a=b,c!=d,e in (f,g),!h,i`.
    pub fn parse(text: &str) -> Result<Self, ParseSelectorError> {
        parse::requirements(text).map(Self::sorted)
    }

    /// From `matchLabels` and `matchExpressions`. An empty selector matches everything.
    pub fn from_selector(selector: &LabelSelector) -> Result<Self, ParseSelectorError> {
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            requirements.push(Requirement::checked(key, Operator::Equals, vec![value.clone()])?);
        }
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(ParseSelectorError(format!("{other:?} is not a valid label selector operator")));
                }
            };
            let values = expression.values.clone().unwrap_or_default();
            requirements.push(Requirement::checked(&expression.key, operator, values)?);
        }
        Ok(Self::sorted(requirements))
    }

    /// From an equality map, such as a Service's selector.
    #[must_use]
    pub fn from_map(map: &BTreeMap<String, String>) -> Self {
        let requirement = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.clone()],
        };
        Self { requirements: map.iter().map(requirement).collect(), nothing: false }
    }

    /// Selects nothing: what a missing `LabelSelector` means.
    #[must_use]
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    fn sorted(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|left, right| left.key.cmp(&right.key));
        Self { requirements, nothing: false }
    }

    /// Whether everything is selected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// The value that the label `key` must have, if the selector demands one.
    #[must_use]
    pub fn exact(&self, key: &str) -> Option<&str> {
        self.requirements.iter().find(|requirement| requirement.key == key).and_then(|requirement| {
            match (requirement.operator, requirement.values.as_slice()) {
                (Operator::Equals | Operator::DoubleEquals | Operator::In, [value]) => Some(value.as_str()),
                _ => None,
            }
        })
    }

    /// Whether an object with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_by(|key| labels.get(key).map(String::as_str))
    }

    /// Whether an object with these labels is selected; an object without labels has none.
    #[must_use]
    pub fn matches_optional(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.matches_by(|key| labels.and_then(|labels| labels.get(key)).map(String::as_str))
    }

    /// Whether an object is selected whose labels `lookup` tells.
    #[must_use]
    pub fn matches_by<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|requirement| requirement.holds(lookup(&requirement.key)))
    }
}

impl Requirement {
    /// A condition whose key and values are valid.
    pub(super) fn checked(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Self, ParseSelectorError> {
        let mut problems = Vec::new();
        let key_problems = label::key_problems(key);
        if !key_problems.is_empty() {
            problems.push(format!("key: Invalid value: {key:?}: {}", key_problems.join("; ")));
        }
        let mut invalid = |why: &str| {
            let shown: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
            problems.push(format!("values: Invalid value: []string{{{}}}: {why}", shown.join(", ")));
        };
        match (operator, values.len()) {
            (Operator::In | Operator::NotIn, 0) => invalid("for 'in', 'notin' operators, values set can't be empty"),
            (Operator::Equals | Operator::DoubleEquals | Operator::NotEquals, count) if count != 1 => {
                invalid("exact-match compatibility requires one single value");
            }
            (Operator::Exists | Operator::DoesNotExist, count) if count != 0 => {
                invalid("values set must be empty for exists and does not exist");
            }
            (Operator::GreaterThan | Operator::LessThan, count) => {
                if count != 1 {
                    invalid("for 'Gt', 'Lt' operators, exactly one value is required");
                }
                for (index, value) in values.iter().enumerate().filter(|(_, value)| value.parse::<i64>().is_err()) {
                    problems.push(format!(
                        "values[{index}]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an \
                         integer"
                    ));
                }
            }
            _ => {}
        }
        for (index, value) in values.iter().enumerate() {
            let value_problems = label::value_problems(value);
            if !value_problems.is_empty() {
                problems
                    .push(format!("values[{index}][{key}]: Invalid value: {value:?}: {}", value_problems.join("; ")));
            }
        }
        match problems.as_slice() {
            [] => {
                values.sort();
                Ok(Self { key: key.to_owned(), operator, values })
            }
            [problem] => Err(ParseSelectorError(problem.clone())),
            several => Err(ParseSelectorError(format!("[{}]", several.join(", ")))),
        }
    }

    fn holds(&self, label: Option<&str>) -> bool {
        let Some(label) = label else {
            return matches!(self.operator, Operator::NotIn | Operator::NotEquals | Operator::DoesNotExist);
        };
        let listed = || self.values.iter().any(|value| value == label);
        match self.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::In => listed(),
            Operator::NotEquals | Operator::NotIn => !listed(),
            Operator::Exists => true,
            Operator::DoesNotExist => false,
            Operator::GreaterThan => self.numbers(label).is_some_and(|(have, limit)| have > limit),
            Operator::LessThan => self.numbers(label).is_some_and(|(have, limit)| have < limit),
        }
    }

    /// The label and the value to compare it with, if both are whole numbers.
    fn numbers(&self, label: &str) -> Option<(i64, i64)> {
        Some((label.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, operator, values } = self;
        let values = values.join(",");
        match operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(text: &str) -> BTreeMap<String, String> {
        text.split(',')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn conditions_select() {
        for (selector, have, want) in [
            ("", "a=b", true),
            ("a=b", "a=b", true),
            ("a==b", "a=c", false),
            ("a!=b", "", true),
            ("a!=b", "a=b", false),
            ("a", "a=", true),
            ("!a", "a=", false),
            ("!a", "", true),
            ("a in (b,c)", "a=c", true),
            ("a in (b,c)", "", false),
            ("a notin (b,c)", "", true),
            ("a notin (b,c)", "a=b", false),
            ("a>5", "a=6", true),
            ("a>5", "a=x", false),
            ("a<5", "a=4", true),
            ("a<5", "", false),
            ("a=", "a=", true),
            ("a=,b=c", "b=c", false),
            ("in in (in)", "in=in", true),
            ("x in (a,,b)", "x=", true),
            ("x in ()", "x=", true),
        ] {
            let parsed = Labels::parse(selector).unwrap();
            assert_eq!(parsed.matches(&labels(have)), want, "{selector} on {have}");
        }
        assert!(!Labels::nothing().matches(&BTreeMap::new()));
    }

    #[test]
    fn text_is_put_in_order() {
        let text = "x in (b, a) ,!y, a=1,z notin (q),b!=2,c==3,n>1,m<2,e";
        let parsed = Labels::parse(text).unwrap();
        assert_eq!(parsed.to_string(), "a=1,b!=2,c==3,e,m<2,n>1,x in (a,b),!y,z notin (q)");
        assert_eq!(parsed.exact("a"), Some("1"));
        assert_eq!(parsed.exact("x"), None);
    }

    #[test]
    fn selectors_of_objects_select() {
        let selector: LabelSelector = serde_json::from_value(json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["db"]}],
        }))
        .unwrap();
        let parsed = Labels::from_selector(&selector).unwrap();
        assert!(parsed.matches(&labels("app=web,tier=front")));
        assert!(!parsed.matches(&labels("app=web,tier=db")));
        assert!(Labels::from_selector(&LabelSelector::default()).unwrap().is_empty());
        let bad: LabelSelector =
            serde_json::from_value(json!({"matchExpressions": [{"key": "a", "operator": "Like"}]})).unwrap();
        assert_eq!(
            Labels::from_selector(&bad).unwrap_err().to_string(),
            "\"Like\" is not a valid label selector operator"
        );
    }
}
