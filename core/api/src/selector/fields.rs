//! Field selectors: `metadata.name=x,status.phase!=Running`.

use std::fmt;

use super::ParseSelectorError;

/// A parsed field selector: `metadata.name=x,status.phase!=Running`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// (field, value, whether it must be equal or must differ)
    pub terms: Vec<(String, String, bool)>,
}

impl Fields {
    /// Parses a field selector. In values, `\\`, `\,` and `\=` stand for the character itself.
    pub fn parse(text: &str) -> Result<Self, ParseSelectorError> {
        let mut parts = split(text);
        parts.sort_unstable();
        let mut terms = Vec::with_capacity(parts.len());
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let (field, value, equal) = split_term(part)
                .ok_or_else(|| ParseSelectorError(format!("invalid selector: '{text}'; can't understand '{part}'")))?;
            terms.push((field.to_owned(), unescape(value)?, equal));
        }
        Ok(Self { terms })
    }

    /// Whether everything is selected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value that `field` must have, if the selector demands one: lets lists use an index.
    #[must_use]
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|(name, _, equal)| *equal && name == field).map(|(_, value, _)| value.as_str())
    }

    /// Whether an object is selected whose fields `lookup` tells. A field without value counts as empty.
    #[must_use]
    pub fn matches<S: AsRef<str>>(&self, lookup: impl Fn(&str) -> Option<S>) -> bool {
        self.terms.iter().all(|(field, value, equal)| {
            let have = lookup(field);
            (have.as_ref().map_or("", AsRef::as_ref) == value) == *equal
        })
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (field, value, equal)) in self.terms.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let operator = if *equal { "=" } else { "!=" };
            write!(f, "{comma}{field}{operator}")?;
            for character in value.chars() {
                if matches!(character, '\\' | ',' | '=') {
                    f.write_str("\\")?;
                }
                write!(f, "{character}")?;
            }
        }
        Ok(())
    }
}

/// Splits at commas that no backslash precedes.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Field, value as written, and whether they must be equal.
fn split_term(term: &str) -> Option<(&str, &str, bool)> {
    let at = term.find('=')?;
    if let Some(bang) = term[..at].strip_suffix('!') {
        return Some((bang, &term[at + 1..], false));
    }
    let value = &term[at + 1..];
    Some((&term[..at], value.strip_prefix('=').unwrap_or(value), true))
}

fn unescape(text: &str) -> Result<String, ParseSelectorError> {
    let bad = |what: String| ParseSelectorError(format!("invalid field selector: {what}"));
    let mut value = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => value.push(escaped),
                Some(other) => return Err(bad(format!("invalid escape sequence: \\{other}"))),
                None => return Err(bad("invalid escape sequence: \\".to_owned())),
            },
            ',' | '=' => return Err(bad(format!("unescaped character in value: {}", u32::from(character)))),
            plain => value.push(plain),
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn terms_are_read() {
        let fields = Fields::parse(r"status.phase!=Running,metadata.name==a\,b,spec.nodeName=").unwrap();
        assert_eq!(fields.to_string(), r"metadata.name=a\,b,spec.nodeName=,status.phase!=Running");
        assert_eq!(fields.exact("metadata.name"), Some("a,b"));
        assert_eq!(fields.exact("status.phase"), None);
        let lookup = |field: &str| (field == "metadata.name").then_some("a,b");
        assert!(fields.matches(lookup));
        assert!(!fields.matches(|_| None::<String>));
        assert!(Fields::parse("").unwrap().is_empty());
        assert!(Fields::parse("a=b,,").unwrap().matches(|_| Some("b")));
    }

    #[test]
    fn bad_terms_say_why() {
        for (text, want) in [
            ("metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
            (r"a=b\c", r"invalid field selector: invalid escape sequence: \c"),
            ("a=b\\", "invalid field selector: invalid escape sequence: \\"),
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        ] {
            assert_eq!(Fields::parse(text), Err(ParseSelectorError(want.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn display_reads_back(value in ".*") {
            let fields = Fields { terms: vec![("a".to_owned(), value, true)] };
            prop_assert_eq!(Fields::parse(&fields.to_string()), Ok(fields));
        }

        #[test]
        fn no_text_panics(text in "[a=!,\\\\ü]{0,20}") {
            drop(Fields::parse(&text));
        }
    }
}
