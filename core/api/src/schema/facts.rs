//! The fact table: list types, merge strategies, Go type names and defaults of fields.
//!
//! Source: field markers and struct tags of Kubernetes v1.36, in the compact form that `facts.txt` explains.

use std::borrow::Cow;
use std::collections::HashMap;

const TABLE: &str = include_str!("facts.txt");

/// What is known of a field besides its type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// How server-side apply sees the list.
    pub list: ListKind,
    /// How server-side apply sees the map or struct.
    pub map: MapKind,
    /// Strategic merge merges the list instead of replacing it.
    pub merge: bool,
    /// The key by which strategic merge finds equal items.
    pub merge_key: Option<Cow<'static, str>>,
    /// Strategic merge may drop the keys that a `$retainKeys` directive does not name.
    pub retain_keys: bool,
    /// Strategic merge replaces the object as a whole.
    pub replace: bool,
    /// Go's name of the type, where it does not follow from the schema: `v1.RestartPolicy`.
    pub go: Option<&'static str>,
    /// The default that OpenAPI tells, as JSON.
    pub default: Option<&'static str>,
}

/// How server-side apply sees a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    /// Nothing is declared: atomic in effect.
    #[default]
    Undeclared,
    /// One value, owned as a whole.
    Atomic,
    /// Unique scalars.
    Set,
    /// Objects told apart by these fields.
    Map(Box<[Cow<'static, str>]>),
}

/// How server-side apply sees a map or struct.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MapKind {
    /// Nothing is declared: granular in effect.
    #[default]
    Undeclared,
    /// Each entry has its owner.
    Granular,
    /// One value, owned as a whole.
    Atomic,
}

/// Facts by definition name (`io.k8s.api.core.v1.PodSpec`), then field; an empty field stands for the type itself.
pub(crate) struct Table(HashMap<(&'static str, &'static str), HashMap<&'static str, Facts>>);

impl Table {
    pub(crate) fn read() -> Self {
        let mut table: HashMap<_, HashMap<_, _>> = HashMap::with_capacity(512);
        let mut package = "";
        for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('@') {
                package = name;
                continue;
            }
            let mut words = line.split(' ');
            let (name, field) = words.next().map_or(("", ""), |path| path.split_once('.').unwrap_or((path, "")));
            let facts = words.fold(Facts::default(), |mut facts, word| {
                facts.add(word, field.is_empty());
                facts
            });
            table.entry((package, name)).or_default().insert(field, facts);
        }
        Self(table)
    }

    /// The facts about one definition's fields.
    pub(crate) fn of<'a>(&'a self, definition: &'a str) -> Option<&'a HashMap<&'static str, Facts>> {
        let (package, name) = definition.rsplit_once('.')?;
        self.0.get(&(package, name))
    }
}

impl Facts {
    fn add(&mut self, word: &'static str, of_type: bool) {
        let (word, value) = word.split_once('=').map_or((word, None), |(word, value)| (word, Some(value)));
        match (word, value) {
            ("atomic", _) if of_type => self.map = MapKind::Atomic,
            ("granular", _) => self.map = MapKind::Granular,
            // Whether the field is a list or a map is the builder's to know.
            ("atomic", _) => self.list = ListKind::Atomic,
            ("set", _) => self.list = ListKind::Set,
            ("map", Some(keys)) => self.list = ListKind::Map(keys.split(',').map(Cow::Borrowed).collect()),
            ("merge", key) => {
                self.merge = true;
                self.merge_key = key.map(Cow::Borrowed);
            }
            ("retainKeys", _) => self.retain_keys = true,
            ("replace", _) => self.replace = true,
            ("go", go) => self.go = go,
            ("default", default) => self.default = default,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_well_formed() {
        for line in TABLE.lines().filter(|line| !line.starts_with(['#', '@'])) {
            let mut words = line.split(' ');
            assert!(words.next().is_some_and(|path| path.chars().next().is_some_and(char::is_uppercase)), "{line}");
            for word in words {
                let mut facts = Facts::default();
                facts.add(word, false);
                assert_ne!(facts, Facts::default(), "{line}");
            }
        }
    }

    #[test]
    fn apply_keys_and_merge_keys_may_differ() {
        let table = Table::read();
        let ports = &table.of("io.k8s.api.core.v1.ServiceSpec").unwrap()["ports"];
        assert_eq!(ports.merge_key.as_deref(), Some("port"));
        assert_eq!(ports.list, ListKind::Map(["port".into(), "protocol".into()].into()));
    }
}
