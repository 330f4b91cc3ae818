//! Bytes to values, with an eye on keys that appear twice.

use std::cell::RefCell;
use std::fmt::{self, Write};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::options::DuplicateKeyPolicy;

use super::{DecodeError, Findings};

/// Findings of a kind that are kept; an input made of duplicates gets no answer of its own size.
const MOST_FINDINGS: usize = 100;

/// Parses JSON; duplicate keys are reported in the findings (the last one wins, as in Go).
/// Nesting is bounded (128 levels); no input panics.
pub fn json(bytes: &[u8]) -> Result<(Value, Findings), DecodeError> {
    let state = State::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Node(&state)
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| DecodeError(format!("json parse error: {error}")))?;
    Ok((value, state.findings.into_inner()))
}

/// Parses one YAML document. Keys are strings; duplicate keys are met as in JSON. Aliases and nesting are bounded.
pub fn yaml(bytes: &[u8]) -> Result<(Value, Findings), DecodeError> {
    let state = State::default();
    // All entries come to the visitor, which tells of the duplicates.
    let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::PassThrough };
    let value = serde_saphyr::with_deserializer_from_slice_with_options(bytes, options, |deserializer| {
        Node(&state).deserialize(deserializer)
    })
    .map_err(|error| DecodeError(format!("yaml parse error: {}", one_line(&error.to_string()))))?;
    Ok((value, state.findings.into_inner()))
}

/// The parser draws the place of the error over several lines; the first says what and where.
fn one_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[derive(Default)]
struct State {
    findings: RefCell<Findings>,
    /// Path of the value that is being read.
    path: RefCell<String>,
}

impl State {
    /// Appends to the path for the time of `inner`.
    fn within<T>(&self, add: impl FnOnce(&mut String), inner: impl FnOnce() -> T) -> T {
        let length = self.path.borrow().len();
        add(&mut self.path.borrow_mut());
        let result = inner();
        self.path.borrow_mut().truncate(length);
        result
    }

    fn duplicate(&self, key: &str) {
        let mut path = self.path.borrow().clone();
        append(&mut path, key);
        let mut findings = self.findings.borrow_mut();
        if findings.duplicate.len() < MOST_FINDINGS {
            findings.duplicate.push(path);
        }
    }
}

fn append(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

struct Node<'a>(&'a State);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that JSON cannot hold"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let index = list.len();
            let add = |path: &mut String| {
                let _ = write!(path, "[{index}]");
            };
            match self.0.within(add, || items.next_element_seed(Node(self.0)))? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = self.0.within(|path| append(path, &key), || entries.next_value_seed(Node(self.0)))?;
            if map.contains_key(&key) {
                self.0.duplicate(&key);
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_that_is_read_and_written_stays_what_it_is() {
        for text in ["9.274074370956741e27", "0.1", "-0.0", "1.5e300", "18446744073709551615"] {
            let (value, _) = json(text.as_bytes()).expect("a number");
            let written = value.to_string();
            let (again, _) = json(written.as_bytes()).expect("a number");
            assert_eq!(again, value, "{text}");
        }
        let (value, _) = json(b"9274074370956740743709551615").expect("a number");
        assert_eq!(json(value.to_string().as_bytes()).expect("a number").0, value);
    }

    #[test]
    fn duplicate_keys_are_found_wherever_they_are() {
        let (value, findings) = json(br#"{"a": 1, "b": [{"c": 1}, {"c": 1, "c": 2}], "a": 3}"#).expect("parses");
        assert_eq!(value, json!({"a": 3, "b": [{"c": 1}, {"c": 2}]}));
        assert_eq!(findings.duplicate, ["b[1].c", "a"]);
        assert_eq!(
            findings.strict_message(),
            r#"strict decoding error: duplicate field "b[1].c", duplicate field "a""#
        );
    }

    #[test]
    fn yaml_reads_as_json_does() {
        let (value, _) = yaml(b"a: 1\nb: [x, true, null]\nc:\n  d: '2'\n").expect("parses");
        assert_eq!(value, json!({"a": 1, "b": ["x", true, null], "c": {"d": "2"}}));
        let (value, findings) = yaml(b"a: 1\nb:\n- c: 1\n  c: 2\na: 3\n").expect("parses");
        assert_eq!((value, findings.duplicate), (json!({"a": 3, "b": [{"c": 2}]}), vec!["b[0].c".into(), "a".into()]));
        let (value, findings) = yaml(b"a: &a {b: 1, c: 2}\nd:\n  <<: *a\n  b: 3\n").expect("parses");
        assert_eq!(value["d"]["b"], 3, "what is said outweighs what is merged");
        assert!(findings.is_empty() && value["d"]["c"] == 2, "{value}");
        assert!(yaml(b"a: [1\n").is_err());
    }

    #[test]
    fn broken_json_says_where() {
        let error = json(b"{\"a\": }").expect_err("no JSON").to_string();
        assert!(error.starts_with("json parse error: ") && error.contains("line 1 column 7"), "{error}");
        assert!(json("[".repeat(100_000).as_bytes()).is_err(), "depth is bounded");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = json(&bytes);
            let _ = yaml(&bytes);
        }
    }
}
