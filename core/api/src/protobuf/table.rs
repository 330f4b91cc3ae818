//! From the table and the schema graph to messages.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Field, Kind, Message, MessageRef, Or, Place, Protobuf, Shape, Slot};
use crate::schema::{Object, Scalar, Schema, Type, TypeRef};

const TABLE: &str = include_str!("table.txt");
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
/// Inlined messages are nested at most so deep.
const MOST_INLINED: u8 = 3;

/// A line of the table.
struct Line {
    package: &'static str,
    name: &'static str,
    fields: &'static str,
}

fn lines() -> impl Iterator<Item = Line> {
    let mut package = "";
    TABLE.lines().filter(|line| !line.starts_with('#')).filter_map(move |line| {
        if let Some(name) = line.strip_prefix('@') {
            package = name;
            return None;
        }
        let (name, fields) = line.split_once(' ').unwrap_or((line, ""));
        Some(Line { package, name, fields })
    })
}

pub(super) fn build(schema: &Schema) -> Protobuf {
    let names: HashMap<Arc<str>, MessageRef> = lines()
        .zip(0..)
        .map(|(line, index)| (Arc::from(format!("{}.{}", line.package, line.name)), MessageRef(index)))
        .collect();
    let mut builder = Builder { schema, names, holders: HashMap::new() };
    for line in lines() {
        for (_, inner) in line.fields.split(' ').filter_map(|field| field.split_once('~')) {
            builder.holders.insert(format!("{}.{inner}", line.package), format!("{}.{}", line.package, line.name));
        }
    }
    let mut messages: Vec<Message> = lines().map(|line| builder.message(&line)).collect();
    for index in 0..messages.len() {
        let (mut slots, mut inlines) = (Vec::new(), Vec::new());
        flatten(&messages, index, Place::default(), &mut slots, &mut inlines);
        slots.sort_by(|left: &Slot, right| left.field.name.cmp(&right.field.name));
        let chosen = |wanted: fn(&Field) -> bool| {
            (0..).zip(&slots).filter(|(_, slot)| wanted(&slot.field)).map(|(index, _)| index).collect()
        };
        let (always, shown) = (chosen(Field::always_written), chosen(|field| field.shown));
        let message = &mut messages[index];
        (message.slots, message.inlines, message.always, message.shown) = (slots, inlines, always, shown);
    }
    Protobuf { messages, names: builder.names }
}

/// The fields of a message as JSON has them.
fn flatten(messages: &[Message], index: usize, outer: Place, slots: &mut Vec<Slot>, inlines: &mut Vec<Place>) {
    for field in &messages[index].fields {
        let place = Place::new(outer, field.tag);
        match field.kind {
            Kind::Inline(inner) if outer.depth < MOST_INLINED => {
                inlines.push(place.inside());
                flatten(messages, inner.0 as usize, place.inside(), slots, inlines);
            }
            _ => slots.push(Slot { field: field.clone(), place }),
        }
    }
}

struct Builder<'a> {
    schema: &'a Schema,
    names: HashMap<Arc<str>, MessageRef>,
    /// The message that an inlined message is found in: the graph has its fields there.
    holders: HashMap<String, String>,
}

impl Builder<'_> {
    fn message(&self, line: &Line) -> Message {
        let name = format!("{}.{}", line.package, line.name);
        let mut fields: Vec<Field> =
            line.fields.split(' ').filter_map(|field| self.field(line.package, &name, field)).collect();
        fields.sort_by_key(|field| field.tag);
        Message { name: name.into(), fields, ..Message::default() }
    }

    fn field(&self, package: &str, message: &str, text: &str) -> Option<Field> {
        if let Some((tag, inner)) = text.split_once('~') {
            let kind = Kind::Inline(*self.names.get(format!("{package}.{inner}").as_str())?);
            return Some(Field {
                name: Arc::from(""),
                tag: tag.parse().ok()?,
                kind,
                shape: Shape::One,
                pointer: false,
                shown: false,
            });
        }
        let (tag, rest) = text.split_once(':')?;
        let (name, explicit) = rest.split_once('=').map_or((rest, None), |(name, ty)| (name, Some(ty)));
        let bare = name.trim_end_matches(['*', '!', '0']);
        let flags = &name[bare.len()..];
        let (shape, kind) = match explicit {
            Some(ty) => self.explicit(package, ty)?,
            None => self.known(message, bare)?,
        };
        let pointer = flags.contains('*');
        // Go's `omitempty` never leaves out a struct.
        let is_struct = shape == Shape::One
            && !pointer
            && !matches!(kind, Kind::String | Kind::Bool | Kind::Int32 | Kind::Int64 | Kind::Double | Kind::Bytes)
            && kind != Kind::Items;
        let shown = flags.contains('!') || (is_struct && !flags.contains('0'));
        Some(Field { name: Arc::from(bare), tag: tag.parse().ok()?, kind, shape, pointer, shown })
    }

    /// The type that the table tells.
    fn explicit(&self, package: &str, text: &str) -> Option<(Shape, Kind)> {
        if let Some(item) = text.strip_prefix("[]") {
            return Some((Shape::List, self.explicit(package, item)?.1));
        }
        if let Some(value) = text.strip_prefix("{}") {
            return Some((Shape::Map, self.explicit(package, value)?.1));
        }
        let message = |name: &str| {
            let (package, name) = name.strip_prefix("meta.").map_or((package, name), |name| (META, name));
            self.names.get(format!("{package}.{name}").as_str()).copied()
        };
        let kind = match text {
            "string" => Kind::String,
            "bool" => Kind::Bool,
            "int32" => Kind::Int32,
            "int64" => Kind::Int64,
            "double" => Kind::Double,
            "bytes" => Kind::Bytes,
            "time" => Kind::Time,
            "microtime" => Kind::MicroTime,
            "quantity" => Kind::Quantity,
            "intstr" => Kind::IntOrString,
            "raw" => Kind::Raw,
            "items" => Kind::Items,
            "JSONSchemaPropsOrBool" => Kind::SchemaOr(Or::Bool, message("JSONSchemaProps")?),
            "JSONSchemaPropsOrArray" => Kind::SchemaOr(Or::Array, message("JSONSchemaProps")?),
            "JSONSchemaPropsOrStringArray" => Kind::SchemaOr(Or::Strings, message("JSONSchemaProps")?),
            name => Kind::Message(message(name)?),
        };
        Some((Shape::One, kind))
    }

    /// The type that the graph knows.
    fn known(&self, message: &str, field: &str) -> Option<(Shape, Kind)> {
        let mut name = message;
        loop {
            let object: Option<&Object> = self.schema.definition(name).and_then(|ty| self.schema.object(ty));
            if let Some(field) = object.and_then(|object| object.field(field)) {
                return self.of(field.ty);
            }
            name = self.holders.get(name)?;
        }
    }

    fn of(&self, ty: TypeRef) -> Option<(Shape, Kind)> {
        Some(match self.schema.get(ty) {
            Type::List(inner) => (Shape::List, self.of(*inner)?.1),
            Type::Map(inner) => match self.of(*inner)? {
                (Shape::List, Kind::String) => (Shape::Map, Kind::Items),
                (_, kind) => (Shape::Map, kind),
            },
            Type::Object(object) => (Shape::One, Kind::Message(*self.names.get(&object.name)?)),
            Type::Any => (Shape::One, Kind::Raw),
            Type::Scalar(scalar) => (
                Shape::One,
                match scalar {
                    Scalar::String => Kind::String,
                    Scalar::Bool => Kind::Bool,
                    Scalar::Int32 => Kind::Int32,
                    Scalar::Int64 => Kind::Int64,
                    Scalar::Double => Kind::Double,
                    Scalar::Bytes => Kind::Bytes,
                    Scalar::Time => Kind::Time,
                    Scalar::MicroTime => Kind::MicroTime,
                    Scalar::IntOrString => Kind::IntOrString,
                    Scalar::Quantity => Kind::Quantity,
                },
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_the_table_has_its_type() {
        let schema = Schema::build();
        let protobuf = build(&schema);
        for line in lines() {
            let name = format!("{}.{}", line.package, line.name);
            let message = protobuf.message(protobuf.names[name.as_str()]);
            let count = line.fields.split(' ').filter(|field| !field.is_empty()).count();
            assert_eq!(message.fields.len(), count, "{name}: {:?}", message.fields);
            assert!(message.slots.len() <= 128, "{name}");
            assert!(message.slots.iter().all(|slot| !matches!(slot.field.kind, Kind::Inline(_))), "{name}");
            assert!(message.fields.iter().all(|field| field.tag < 1 << 12), "{name}");
        }
    }

    #[test]
    fn every_kind_and_field_of_the_graph_has_its_place() {
        let schema = Schema::build();
        let protobuf = build(&schema);
        for (group, version, kind, ty) in schema.kinds() {
            let api_version = match group {
                "" | "*" => version.to_owned(),
                _ => format!("{group}/{version}"),
            };
            let found = protobuf.find(&api_version, kind).unwrap_or_else(|| panic!("{api_version} {kind}"));
            let object = schema.object(ty).expect("a struct");
            assert_eq!(protobuf.message(found).name, object.name);
        }
        for name in protobuf.names.keys() {
            let Some(object) = schema.definition(name).and_then(|ty| schema.object(ty)) else { continue };
            let message = protobuf.message(protobuf.names[name]);
            for field in object.fields() {
                let of_type = ["kind", "apiVersion"].contains(&&*field.name);
                assert!(of_type || message.by_name(&field.name).is_some(), "{name}.{}", field.name);
            }
        }
    }
}
