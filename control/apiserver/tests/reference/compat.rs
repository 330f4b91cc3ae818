//! The table of docs/compat.md.

use std::fs;
use std::path::Path;

/// Patterns of facts that may differ, each with its reason.
pub(crate) struct Compat {
    rows: Vec<(String, String)>,
}

impl Compat {
    pub(crate) fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the project's folder");
        let text = fs::read_to_string(root.join("docs/compat.md")).expect("docs/compat.md is there");
        Self::parse(&text)
    }

    /// Every table row whose first cell holds patterns in backquotes.
    fn parse(text: &str) -> Self {
        let mut rows = Vec::new();
        for line in text.lines().filter(|line| line.starts_with("| `")) {
            let mut cells = line.trim_matches('|').split(" | ");
            let (patterns, reason) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default().trim());
            assert!(!reason.is_empty(), "a row of docs/compat.md gives no reason: {line}");
            rows.extend(patterns.split('`').skip(1).step_by(2).map(|pattern| (pattern.to_owned(), reason.to_owned())));
        }
        Self { rows }
    }

    pub(crate) fn lists(&self, fact: &str) -> bool {
        self.rows.iter().any(|(pattern, _)| matches(pattern, fact))
    }

    /// Patterns that match none of the differences.
    pub(crate) fn stale<'a>(&self, differences: impl Iterator<Item = &'a str> + Clone) -> Vec<&str> {
        let patterns = self.rows.iter().map(|(pattern, _)| pattern.as_str());
        patterns.filter(|pattern| !differences.clone().any(|fact| matches(pattern, fact))).collect()
    }
}

/// Whether a pattern, in which `*` stands for any text, matches all of a fact.
fn matches(pattern: &str, fact: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == fact };
    let Some(mut left) = fact.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(tail)
}

#[test]
fn a_star_stands_for_any_text() {
    assert!(matches("GET /api/*", "GET /api/v1/pods"));
    assert!(matches("* /api/*/pods ?watch", "GET /api/v1/pods ?watch"));
    assert!(matches("a", "a"));
    for (pattern, fact) in [("a", "ab"), ("* /api/*/pods", "GET /api/v1/pods ?x"), ("b*", "ab"), ("*ab*ba", "aba")] {
        assert!(!matches(pattern, fact), "{pattern} {fact}");
    }
}

#[test]
fn rows_that_nothing_needs_are_told() {
    let compat = Compat::parse("| what | why |\n|---|---|\n| `a*`, `b` | beta |\n| `c` | gone |\n");
    assert!(compat.lists("ab") && compat.lists("b") && !compat.lists("d"));
    assert_eq!(compat.stale(["a1", "b"].into_iter()), ["c"]);
}
