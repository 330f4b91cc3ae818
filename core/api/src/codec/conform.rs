//! Holds a value against its type, as Go's decoder does.

use std::fmt::Write;

use base64::Engine;
use serde_json::{Number, Value};

use super::{DecodeError, Findings};
use crate::quantity;
use crate::schema::{Scalar, Schema, Type, TypeRef};

/// Unknown fields that are reported; the rest is dropped without a word.
const MOST_FINDINGS: usize = 100;

/// Levels of lists and maps in an object. Clients read lists and events with parsers that take 128, and there the object
/// lies a few levels down.
const MOST_LEVELS: usize = 100;

fn is_within(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(list) => levels > 0 && list.iter().all(|item| is_within(item, levels - 1)),
        Value::Object(map) => levels > 0 && map.values().all(|item| is_within(item, levels - 1)),
        _ => true,
    }
}

/// Holds `value` against the type: removes unknown fields and reports them, and rejects wrong types with Go's wording
/// (`json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32`).
/// Nulls of fields are removed, as Go's zero values would be; quantities and times get their canonical form.
/// Values that nest deeper than [`MOST_LEVELS`] are refused.
pub fn conform(schema: &Schema, root: TypeRef, value: &mut Value, findings: &mut Findings) -> Result<(), DecodeError> {
    if !is_within(value, MOST_LEVELS) {
        return Err(DecodeError(format!("json: the value nests deeper than {MOST_LEVELS} levels")));
    }
    let mut walk = Walk { schema, findings, path: String::new(), go_path: String::new(), holder: String::new() };
    walk.value(root, value)
}

struct Walk<'a> {
    schema: &'a Schema,
    findings: &'a mut Findings,
    /// With indexes, as strict decoding reports it: `spec.containers[0].image`.
    path: String,
    /// Without indexes, as Go's decoder reports it: `spec.containers.image`.
    go_path: String,
    /// The struct that holds the value.
    holder: String,
}

impl Walk<'_> {
    fn value(&mut self, ty: TypeRef, value: &mut Value) -> Result<(), DecodeError> {
        let schema = self.schema;
        match schema.get(ty) {
            Type::Any => Ok(()),
            Type::Scalar(scalar) => self.scalar(*scalar, value),
            Type::List(item) => {
                let Value::Array(items) = value else { return Err(self.wrong_type(ty, value)) };
                for (index, entry) in items.iter_mut().enumerate() {
                    let length = self.path.len();
                    let _ = write!(self.path, "[{index}]");
                    if entry.is_null() {
                        *entry = self.zero(*item);
                    }
                    self.value(*item, entry)?;
                    self.path.truncate(length);
                }
                Ok(())
            }
            Type::Map(inner) => {
                let Value::Object(map) = value else { return Err(self.wrong_type(ty, value)) };
                for (key, entry) in map.iter_mut() {
                    if entry.is_null() {
                        *entry = self.zero(*inner);
                    }
                    self.within(key, |walk| walk.value(*inner, entry))?;
                }
                Ok(())
            }
            Type::Object(object) => {
                let Value::Object(map) = value else { return Err(self.wrong_type(ty, value)) };
                let holder = std::mem::replace(&mut self.holder, object.go_name().to_owned());
                let mut failure = None;
                map.retain(|key, entry| {
                    if failure.is_some() {
                        return true;
                    }
                    let Some(field) = object.field(key) else {
                        self.unknown(key);
                        return false;
                    };
                    if entry.is_null() {
                        return false;
                    }
                    failure = self.within(key, |walk| walk.value(field.ty, entry)).err();
                    true
                });
                self.holder = holder;
                failure.map_or(Ok(()), Err)
            }
        }
    }

    fn scalar(&mut self, scalar: Scalar, value: &mut Value) -> Result<(), DecodeError> {
        let wrong = |walk: &Self, value: &Value| Err(walk.mismatch(&describe(value), scalar.go_type()));
        match (scalar, &*value) {
            (Scalar::String, Value::String(_)) | (Scalar::Bool, Value::Bool(_)) => Ok(()),
            (Scalar::Double, Value::Number(_)) => Ok(()),
            (Scalar::Int32, Value::Number(number)) => match number.as_i64().and_then(|wide| i32::try_from(wide).ok()) {
                Some(_) => Ok(()),
                None => wrong(self, value),
            },
            (Scalar::Int64, Value::Number(number)) if number.as_i64().is_some() => Ok(()),
            (Scalar::IntOrString, Value::String(_)) => Ok(()),
            (Scalar::IntOrString, Value::Number(number)) => {
                match number.as_i64().and_then(|wide| i32::try_from(wide).ok()) {
                    Some(_) => Ok(()),
                    None => Err(self.mismatch(&describe(value), "int32")),
                }
            }
            (Scalar::Bytes, Value::String(text)) => {
                match base64::engine::general_purpose::STANDARD.decode(text.replace(['\n', '\r'], "")) {
                    Ok(_) => Ok(()),
                    Err(error) => Err(DecodeError(match illegal_base64(text) {
                        Some(offset) => format!("illegal base64 data at input byte {offset}"),
                        None => format!("illegal base64 data in {}: {error}", self.path),
                    })),
                }
            }
            (Scalar::Quantity, Value::String(text)) => self.quantity(&text.clone(), value),
            (Scalar::Quantity, Value::Number(number)) => self.quantity(&number.to_string(), value),
            (Scalar::Time, Value::String(text)) => {
                let time = self.time(text)?;
                *value = Value::String(
                    jiff::fmt::temporal::DateTimePrinter::new().precision(Some(0)).timestamp_to_string(&time),
                );
                Ok(())
            }
            (Scalar::MicroTime, Value::String(text)) => {
                let time = self.time(text)?;
                *value = Value::String(
                    jiff::fmt::temporal::DateTimePrinter::new().precision(Some(6)).timestamp_to_string(&time),
                );
                Ok(())
            }
            _ => wrong(self, value),
        }
    }

    fn quantity(&self, text: &str, value: &mut Value) -> Result<(), DecodeError> {
        match quantity::canonical(text.trim()) {
            Ok(canonical) => {
                *value = Value::String(canonical);
                Ok(())
            }
            Err(error) => Err(DecodeError(format!("{} ({}: {text:?})", error, self.path))),
        }
    }

    fn time(&self, text: &str) -> Result<jiff::Timestamp, DecodeError> {
        text.parse().map_err(|_| {
            DecodeError(format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {}", self.path))
        })
    }

    /// What Go makes of a null in a list or map.
    fn zero(&self, ty: TypeRef) -> Value {
        match self.schema.get(ty) {
            Type::Object(_) | Type::Map(_) => Value::Object(serde_json::Map::new()),
            Type::List(_) => Value::Array(Vec::new()),
            Type::Any => Value::Null,
            Type::Scalar(scalar) => match scalar {
                Scalar::Bool => Value::Bool(false),
                Scalar::Int32 | Scalar::Int64 | Scalar::IntOrString | Scalar::Double => Value::Number(Number::from(0)),
                Scalar::Quantity => Value::String("0".to_owned()),
                _ => Value::String(String::new()),
            },
        }
    }

    fn within<T>(&mut self, key: &str, inner: impl FnOnce(&mut Self) -> T) -> T {
        let (length, go_length) = (self.path.len(), self.go_path.len());
        for path in [&mut self.path, &mut self.go_path] {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(key);
        }
        let result = inner(self);
        self.path.truncate(length);
        self.go_path.truncate(go_length);
        result
    }

    fn unknown(&mut self, key: &str) {
        if self.findings.unknown.len() < MOST_FINDINGS {
            let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
            self.findings.unknown.push(path);
        }
    }

    fn wrong_type(&self, ty: TypeRef, value: &Value) -> DecodeError {
        self.mismatch(&describe(value), &self.schema.go_type(ty))
    }

    fn mismatch(&self, found: &str, wanted: &str) -> DecodeError {
        if self.go_path.is_empty() {
            return DecodeError(format!("json: cannot unmarshal {found} into Go value of type {wanted}"));
        }
        DecodeError(format!(
            "json: cannot unmarshal {found} into Go struct field {}.{} of type {wanted}",
            self.holder, self.go_path
        ))
    }
}

/// What Go calls a value that does not fit.
fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) if number.is_f64() || number.as_i64().is_none_or(|wide| i32::try_from(wide).is_err()) => {
            format!("number {number}")
        }
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

/// Where a text stops being base64, counted as Go counts it: the wrong byte, or where what is too short begins.
fn illegal_base64(text: &str) -> Option<usize> {
    let mut bytes = text.bytes().enumerate().filter(|(_, byte)| !matches!(byte, b'\n' | b'\r'));
    loop {
        for place in 0..4 {
            match bytes.next() {
                None if place == 0 => return None,
                None => return Some(text.len() - place),
                Some((_, byte)) if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/') => {}
                Some((_, b'=')) if place == 3 => return bytes.next().map(|(offset, _)| offset),
                Some((offset, b'=')) if place == 2 => {
                    return match bytes.next() {
                        None => Some(text.len()),
                        Some((_, b'=')) => bytes.next().map(|(offset, _)| offset),
                        Some(_) => Some(offset),
                    };
                }
                Some((offset, _)) => return Some(offset),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use serde_json::json;

    use super::*;

    static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::build);

    fn check(kind: (&str, &str), mut value: Value) -> Result<(Value, Vec<String>), String> {
        let root = SCHEMA.find(kind.0, "v1", kind.1).expect("a kind");
        let mut findings = Findings::default();
        conform(&SCHEMA, root, &mut value, &mut findings).map_err(|error| error.0)?;
        Ok((value, findings.unknown))
    }

    const DEPLOYMENT: (&str, &str) = ("apps", "Deployment");
    const POD: (&str, &str) = ("", "Pod");

    #[test]
    fn wrong_types_are_named_as_go_names_them() {
        let cases = [
            (DEPLOYMENT, json!({"spec": {"replicas": "three"}})),
            (DEPLOYMENT, json!({"spec": {"replicas": 1.5}})),
            (DEPLOYMENT, json!({"spec": []})),
            (POD, json!({"spec": {"containers": {"name": "x"}}})),
            (POD, json!({"spec": {"containers": [{"name": 7}]}})),
            (POD, json!({"metadata": {"labels": {"a": true}}})),
            (POD, json!([])),
        ];
        let lines: Vec<String> = cases.map(|(kind, value)| check(kind, value).expect_err("a wrong type")).into();
        expect_test::expect![[r#"
            json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32
            json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32
            json: cannot unmarshal array into Go struct field Deployment.spec of type v1.DeploymentSpec
            json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container
            json: cannot unmarshal number into Go struct field Container.spec.containers.name of type string
            json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels.a of type string
            json: cannot unmarshal array into Go value of type v1.Pod"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn unknown_fields_are_dropped_and_reported_with_their_index() {
        let value = json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "imagee": "x"}], "oops": 1}});
        let (value, unknown) = check(POD, value).expect("fits");
        assert_eq!(unknown, ["spec.containers[1].imagee", "spec.oops"]);
        assert_eq!(value, json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}));
    }

    #[test]
    fn deep_values_are_refused_wherever_they_hide() {
        let nested = |levels: usize| (0..levels).fold(json!({}), |below, _| json!({"f:a": below}));
        let pod = |levels| json!({"metadata": {"managedFields": [{"fieldsV1": nested(levels)}]}});
        assert!(check(POD, pod(95)).is_ok());
        let error = check(POD, pod(96)).expect_err("deep");
        assert_eq!(error, "json: the value nests deeper than 100 levels");
    }

    #[test]
    fn values_get_their_canonical_form() {
        let value = json!({
            "metadata": {"creationTimestamp": null, "deletionTimestamp": "2026-01-02T03:04:05.678+01:00"},
            "spec": {"containers": [{"resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}}]},
        });
        let (value, _) = check(POD, value).expect("fits");
        expect_test::expect![[
            r#"{"metadata":{"deletionTimestamp":"2026-01-02T02:04:05Z"},"spec":{"containers":[{"resources":{"limits":{"cpu":"500m","memory":"1Gi"}}}]}}"#
        ]]
        .assert_eq(&value.to_string());
    }
}

#[cfg(test)]
mod base64_tests {
    use super::illegal_base64;

    #[test]
    fn the_byte_at_which_base64_ends_is_that_of_go() {
        for (text, expected) in [
            ("not base64!", Some(3)),
            ("YWJj", None),
            ("YQ==", None),
            ("YWI=", None),
            ("YWJjZ", Some(4)),
            ("YWJjZGU", Some(4)),
            ("YQ=", Some(3)),
            ("YQ=x", Some(2)),
            ("YQ==YQ==", Some(4)),
            ("YW\nJj!", Some(5)),
            ("=", Some(0)),
        ] {
            assert_eq!(illegal_base64(text), expected, "{text:?}");
        }
    }
}
