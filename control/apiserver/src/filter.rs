//! Which objects of a kind a request asks for.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::OnceLock;

use corten_api::selector::{Fields, Labels};
use corten_api::status::Status;
use corten_kinds::AnyKind;
use serde::Deserialize;
use serde_json::Value;

use crate::canonical;
use crate::request::Query;

/// Which objects of a kind are asked for.
pub(crate) struct Filter {
    kind: &'static dyn AnyKind,
    labels: Labels,
    fields: Fields,
    /// Whether the fields are more than name and namespace.
    deep: bool,
}

/// What filters read of an object's metadata.
#[derive(Default, Deserialize)]
struct Meta<'a> {
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    namespace: Option<Text<'a>>,
    #[serde(borrow, default)]
    labels: Option<HashMap<Text<'a>, Text<'a>>>,
}

/// Text that is borrowed where it has no escapes.
#[derive(Deserialize, PartialEq, Eq, Hash)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl std::borrow::Borrow<str> for Text<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[derive(Deserialize)]
struct Outer<'a> {
    #[serde(borrow, default)]
    metadata: Meta<'a>,
}

impl<'a> Meta<'a> {
    fn of(object: &'a [u8]) -> Option<Self> {
        match canonical::metadata(object) {
            Some(range) => serde_json::from_slice(&object[range]).ok(),
            None => serde_json::from_slice::<Outer<'_>>(object).ok().map(|outer| outer.metadata),
        }
    }
}

/// What filters read of an object, kept for the next who asks.
pub(crate) struct Facts {
    meta: Option<OwnMeta>,
    fields: OnceLock<Vec<(&'static str, String)>>,
}

struct OwnMeta {
    name: String,
    namespace: String,
    labels: Vec<(String, String)>,
}

impl Facts {
    pub(crate) fn of(object: &[u8]) -> Self {
        let own = |text: Option<Text<'_>>| text.map(|text| text.0.into_owned()).unwrap_or_default();
        let meta = Meta::of(object).map(|meta| OwnMeta {
            name: own(meta.name),
            namespace: own(meta.namespace),
            labels: meta.labels.into_iter().flatten().map(|(k, v)| (k.0.into_owned(), v.0.into_owned())).collect(),
        });
        Self { meta, fields: OnceLock::new() }
    }

    /// Bytes that hang on this, roughly.
    pub(crate) fn size(&self) -> usize {
        let labels = self.meta.iter().flat_map(|meta| &meta.labels);
        512 + labels.map(|(key, value)| key.len() + value.len() + 64).sum::<usize>()
    }
}

impl Filter {
    pub(crate) fn parse(kind: &'static dyn AnyKind, query: &Query) -> Result<Self, Status> {
        let labels = query.get("labelSelector").map_or(Ok(Labels::default()), Labels::parse);
        let labels = labels.map_err(|error| Status::bad_request(error.0))?;
        let text = query.get("fieldSelector").unwrap_or_default();
        let fields = Fields::parse(text).map_err(|error| Status::bad_request(error.0))?;
        let known = |name: &str| is_shallow(name) || kind.field_names().contains(&name);
        if let Some((name, ..)) = fields.terms.iter().find(|(name, ..)| !known(name)) {
            return Err(Status::bad_request(kind.unknown_field(name)));
        }
        let deep = fields.terms.iter().any(|(name, ..)| !is_shallow(name));
        Ok(Self { kind, labels, fields, deep })
    }

    /// Limits the filter to one name, as a watch on one object does.
    pub(crate) fn only(&mut self, name: &str) {
        self.fields.terms.push(("metadata.name".to_owned(), name.to_owned(), true));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The one name that can match, if the filter names one.
    pub(crate) fn name(&self) -> Option<&str> {
        self.fields.exact("metadata.name")
    }

    /// The one namespace that can match, if the filter names one.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.fields.exact("metadata.namespace")
    }

    /// Whether an object is asked for. Reads no more of it than it must.
    pub(crate) fn matches(&self, object: &[u8]) -> bool {
        if self.is_empty() {
            return true;
        }
        let Some(meta) = Meta::of(object) else { return false };
        let label = |key: &str| meta.labels.as_ref().and_then(|labels| labels.get(key)).map(|text| &*text.0);
        if !self.labels.matches_by(label) {
            return false;
        }
        let plain = |text: &'_ Option<Text<'_>>| text.as_ref().map(|text| text.0.clone().into_owned());
        let of_meta = |name: &str| plain(if name == "metadata.name" { &meta.name } else { &meta.namespace });
        // Most objects that a selector leaves out are left out by their name.
        let shallow = self.fields.terms.iter().filter(|(name, ..)| is_shallow(name));
        if shallow.into_iter().any(|(name, value, equal)| (of_meta(name).unwrap_or_default() == *value) != *equal) {
            return false;
        }
        !self.deep || self.deep_match(&self.fields_of(object), of_meta)
    }

    /// Whether an object is asked for of which some facts are known already.
    pub(crate) fn matches_facts(&self, facts: &Facts, object: &[u8]) -> bool {
        let Some(meta) = &facts.meta else { return false };
        let label = |key: &str| meta.labels.iter().find(|(own, _)| own == key).map(|(_, value)| value.as_str());
        if !self.labels.matches_by(label) {
            return false;
        }
        let of_meta = |name: &str| Some(if name == "metadata.name" { &meta.name } else { &meta.namespace }.clone());
        if !self.deep {
            return self.fields.matches(of_meta);
        }
        self.deep_match(facts.fields.get_or_init(|| self.fields_of(object)), of_meta)
    }

    fn fields_of(&self, object: &[u8]) -> Vec<(&'static str, String)> {
        let object: Value = serde_json::from_slice(object).unwrap_or_default();
        self.kind.fields(&object)
    }

    fn deep_match(&self, own: &[(&'static str, String)], of_meta: impl Fn(&str) -> Option<String>) -> bool {
        self.fields.matches(|name| {
            if is_shallow(name) {
                return of_meta(name);
            }
            own.iter().find(|(own, _)| *own == name).map(|(_, value)| value.clone())
        })
    }
}

fn is_shallow(field: &str) -> bool {
    ["metadata.name", "metadata.namespace"].contains(&field)
}

#[cfg(test)]
mod tests {
    use corten_kinds::KINDS;

    use super::*;

    fn check(query: &str, object: &str, expected: bool) {
        let pods = KINDS.iter().copied().find(|kind| kind.names().plural == "pods").expect("pods");
        let filter = Filter::parse(pods, &Query::parse(Some(query))).expect("parses");
        assert_eq!(filter.matches(object.as_bytes()), expected, "{query} {object}");
        let facts = Facts::of(object.as_bytes());
        assert_eq!(
            filter.is_empty() || filter.matches_facts(&facts, object.as_bytes()),
            expected,
            "{query} {object} by facts"
        );
    }

    #[test]
    fn a_field_that_no_object_has_is_refused_in_the_words_of_its_kind() {
        for (plural, expected) in [
            ("pods", "field label not supported: data.a"),
            ("configmaps", r#""data.a" is not a known field selector: only "metadata.name", "metadata.namespace""#),
            ("jobs", r#"field label "data.a" not supported for Job"#),
            ("resourceslices", "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: data.a"),
        ] {
            let kind = KINDS.iter().copied().find(|kind| kind.names().plural == plural).expect("a kind");
            let refused = Filter::parse(kind, &Query::parse(Some("fieldSelector=data.a%3D1"))).err().expect("refused");
            assert_eq!((refused.code, refused.message.as_str()), (400, expected));
        }
    }

    #[test]
    fn objects_are_chosen_by_labels_and_fields() {
        let pod = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"resourceVersion":"3","name":"a","namespace":"n","labels":{"app":"w\u0065b"}},"spec":{"nodeName":"x","containers":[]},"status":{"phase":"Running"}}"#;
        let turned = r#"{"spec":{"nodeName":"x"},"metadata":{"name":"a","namespace":"n","labels":{"app":"web"}},"status":{"phase":"Running"}}"#;
        for object in [pod, turned] {
            for (query, expected) in [
                ("", true),
                ("labelSelector=app%3Dweb", true),
                ("labelSelector=app%21%3Dweb", false),
                ("labelSelector=%21app", false),
                ("labelSelector=%21other", true),
                ("fieldSelector=metadata.name%3Da", true),
                ("fieldSelector=metadata.name%21%3Da", false),
                ("fieldSelector=metadata.namespace%3Dm", false),
                ("fieldSelector=spec.nodeName%3Dx", true),
                ("fieldSelector=spec.nodeName%3Dx,metadata.name%3Db", false),
                ("fieldSelector=spec.nodeName%3Dx,status.phase%3DRunning,metadata.name%3Da", true),
                ("fieldSelector=status.phase%21%3DRunning&labelSelector=app", false),
            ] {
                check(query, object, expected);
            }
        }
        check("labelSelector=%21app", r#"{"metadata":{"labels":null}}"#, true);
        check("labelSelector=app", "no JSON", false);
    }
}
