//! Whether an applied configuration fits its schema.

use serde_json::Value;

use super::Element;
use super::set::show;
use super::shape::{Index, Node, Shape};
use crate::schema::{Scalar, Type};

/// Mistakes that are told; a configuration made of mistakes gets no answer of its own size.
const MOST_MISTAKES: usize = 100;

/// What is wrong with a configuration, as one text: unknown fields, wrong types, items without key or with the same.
pub(super) fn validate(node: Node<'_>, config: &Value) -> Result<(), String> {
    let mut mistakes = Vec::new();
    Walk { mistakes: &mut mistakes, path: Vec::new() }.value(node, config);
    match mistakes.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("errors:\n  {}", many.join("\n  "))),
    }
}

struct Walk<'a> {
    mistakes: &'a mut Vec<String>,
    path: Vec<Element>,
}

impl Walk<'_> {
    fn mistake(&mut self, what: impl AsRef<str>) {
        if self.mistakes.len() < MOST_MISTAKES {
            let path = show(&self.path);
            let separator = if path.is_empty() { "" } else { ": " };
            self.mistakes.push(format!("{path}{separator}{}", what.as_ref()));
        }
    }

    fn within(&mut self, element: Element, inner: impl FnOnce(&mut Self)) {
        self.path.push(element);
        inner(self);
        self.path.pop();
    }

    fn value(&mut self, node: Node<'_>, value: &Value) {
        if value.is_null() || self.mistakes.len() >= MOST_MISTAKES {
            return;
        }
        match node.schema.get(node.ty) {
            Type::Any => {}
            Type::Scalar(scalar) => self.scalar(*scalar, value),
            Type::List(item) => {
                let Value::Array(items) = value else {
                    return self.mistake(format!("expected list, got {}", describe(value)));
                };
                let shape = node.shape(Some(value));
                if matches!(shape, Shape::Leaf) {
                    for (index, entry) in items.iter().enumerate() {
                        let index = i64::try_from(index).unwrap_or(i64::MAX);
                        self.within(Element::Index(index), |walk| walk.value(node.inner(*item), entry));
                    }
                } else {
                    self.items(node, shape, items, node.inner(*item));
                }
            }
            Type::Map(inner) => {
                let Value::Object(map) = value else {
                    return self.mistake(format!("expected map, got {}", describe(value)));
                };
                for (key, entry) in map {
                    self.within(Element::field(key), |walk| walk.value(node.inner(*inner), entry));
                }
            }
            Type::Object(object) => {
                let Value::Object(map) = value else {
                    return self.mistake(format!("expected map, got {}", describe(value)));
                };
                for (key, entry) in map {
                    self.within(Element::field(key), |walk| match object.field(key) {
                        Some(field) => walk.value(node.field(field), entry),
                        None => walk.mistake("field not declared in schema"),
                    });
                }
            }
        }
    }

    fn items(&mut self, node: Node<'_>, shape: Shape<'_>, items: &[Value], inner: Node<'_>) {
        for (index, item) in items.iter().enumerate() {
            match node.element(shape, item) {
                Ok(element) => self.within(element, |walk| walk.value(inner, item)),
                Err(why) => self.mistake(format!("element {index}: {why}")),
            }
        }
        let index = Index::new(node, shape, items);
        for element in index.order().iter().filter(|element| index.get(element).len() > 1) {
            self.mistake(format!("duplicate entries for key {element}"));
        }
    }

    fn scalar(&mut self, scalar: Scalar, value: &Value) {
        let (fits, expected) = match scalar {
            Scalar::String | Scalar::Bytes | Scalar::Time | Scalar::MicroTime => (value.is_string(), "string"),
            Scalar::Bool => (value.is_boolean(), "boolean"),
            Scalar::Int32 | Scalar::Int64 | Scalar::Double => (value.is_number(), "numeric (int or float)"),
            Scalar::IntOrString | Scalar::Quantity => (value.is_string() || value.is_number(), "scalar"),
        };
        if !fits {
            self.mistake(format!("expected {expected}, got {}", describe(value)));
        }
    }
}

fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}
