//! One step of a path: a field, an item of a list by its key or value, or an index.

use std::cmp::Ordering;
use std::fmt::{self, Write};
use std::sync::Arc;

use serde_json::{Map, Value};

/// A step of a path.
#[derive(Clone, Debug)]
pub enum Element {
    /// A field of a struct, or a key of a map.
    Field(Arc<str>),
    /// An item of a list of objects, by its key fields, sorted by name.
    Key(Box<[(Arc<str>, Value)]>),
    /// An item of a set.
    Value(Value),
    /// An item of a list by position.
    Index(i64),
}

impl Element {
    /// The step to a field.
    #[must_use]
    pub fn field(name: &str) -> Self {
        Self::Field(Arc::from(name))
    }

    /// As FieldsV1 writes it: `f:spec`, `k:{"name":"a"}`, `v:"x"`, `i:0`.
    pub(super) fn encode(&self) -> String {
        match self {
            Self::Field(name) => {
                let mut text = String::with_capacity(name.len() + 2);
                text.push_str("f:");
                text.push_str(name);
                text
            }
            Self::Key(fields) => {
                let mut text = String::with_capacity(32);
                text.push_str("k:{");
                for (index, (name, value)) in fields.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    let _ = write!(text, "{comma}{}:{value}", Value::from(&**name));
                }
                text.push('}');
                text
            }
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    /// Reads a key of FieldsV1. `Ok(None)` is a kind of step that we do not know, which is to be passed over.
    pub(super) fn decode(text: &str) -> Result<Option<Self>, String> {
        let Some((kind, rest)) = text.split_once(':') else {
            return Err(format!("missing colon in the path element {text:?}"));
        };
        let json = || serde_json::from_str::<Value>(rest).map_err(|error| format!("path element {text:?}: {error}"));
        Ok(Some(match kind {
            "f" => Self::field(rest),
            "v" => Self::Value(json()?),
            "i" => Self::Index(rest.parse().map_err(|_| format!("path element {text:?} has no number"))?),
            "k" => {
                let Value::Object(fields) = json()? else { return Err(format!("path element {text:?} has no object")) };
                Self::key(fields)
            }
            _ => return Ok(None),
        }))
    }

    fn key(fields: Map<String, Value>) -> Self {
        let mut fields: Vec<(Arc<str>, Value)> =
            fields.into_iter().map(|(name, value)| (Arc::from(name), value)).collect();
        fields.sort_by(|left, right| left.0.cmp(&right.0));
        Self::Key(fields.into())
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

/// As messages show paths: `.spec`, `[name="a"]`, `[="x"]`, `[0]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(fields) => {
                f.write_char('[')?;
                for (index, (name, value)) in fields.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{name}={value}")?;
                }
                f.write_char(']')
            }
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Element {}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Fields, then keys, then values, then indexes.
impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(left), Self::Field(right)) => left.cmp(right),
            (Self::Key(left), Self::Key(right)) => {
                let mut pairs = left.iter().zip(right.iter());
                let differs = pairs.find_map(|((left_name, left), (right_name, right))| {
                    let order = left_name.cmp(right_name).then_with(|| compare(left, right));
                    (order != Ordering::Equal).then_some(order)
                });
                differs.unwrap_or_else(|| left.len().cmp(&right.len()))
            }
            (Self::Value(left), Self::Value(right)) => compare(left, right),
            (Self::Index(left), Self::Index(right)) => left.cmp(right),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

/// Numbers, then texts, then booleans, lists, maps and null.
fn compare(left: &Value, right: &Value) -> Ordering {
    fn rank(value: &Value) -> u8 {
        match value {
            Value::Number(_) => 0,
            Value::String(_) => 1,
            Value::Bool(_) => 2,
            Value::Array(_) => 3,
            Value::Object(_) => 4,
            Value::Null => 5,
        }
    }
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            // Whole numbers before others: compared as fractions, large ones would have no order.
            match (left.as_i128(), right.as_i128()) {
                (Some(left), Some(right)) => left.cmp(&right),
                (None, None) => left.as_f64().unwrap_or(0.0).total_cmp(&right.as_f64().unwrap_or(0.0)),
                (left, right) => right.is_some().cmp(&left.is_some()),
            }
        }
        (Value::String(left), Value::String(right)) => left.cmp(right),
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => {
            left.to_string().cmp(&right.to_string())
        }
        _ => rank(left).cmp(&rank(right)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_have_one_order() {
        let sorted = [json!(-1), json!(9_007_199_254_740_992_i64), json!(9_007_199_254_740_993_i64), json!(u64::MAX)]
            .into_iter()
            .chain([json!(-0.5), json!(9_007_199_254_740_992.5)]);
        let sorted: Vec<Value> = sorted.collect();
        for (left, one) in sorted.iter().enumerate() {
            for (right, other) in sorted.iter().enumerate() {
                assert_eq!(compare(one, other), left.cmp(&right), "{one} and {other}");
            }
        }
    }
}
