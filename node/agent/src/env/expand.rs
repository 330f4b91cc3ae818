//! `$(NAME)` in values, commands, arguments and sub-paths.

/// Replaces each `$(NAME)` by what `value` says; one that it does not know stays as it is. `$$` is a dollar sign.
pub(crate) fn expand(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let mut letters = rest.chars();
        match letters.next() {
            None => out.push('$'),
            Some('$') => {
                out.push('$');
                rest = letters.as_str();
            }
            Some('(') => match letters.as_str().split_once(')') {
                Some((name, after)) => {
                    match value(name) {
                        Some(value) => out.push_str(&value),
                        None => out.extend(["$(", name, ")"]),
                    }
                    rest = after;
                }
                None => {
                    out.push_str("$(");
                    rest = letters.as_str();
                }
            },
            Some(letter) => {
                out.push('$');
                out.push(letter);
                rest = letters.as_str();
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_rules_of_kubernetes() {
        let value = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "B" => Some("$(A)".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("$(A)", "a"),
            ("x$(A)y$(A)", "xaya"),
            ("$(B)", "$(A)"),
            ("[$(EMPTY)]", "[]"),
            ("$(NONE)", "$(NONE)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$a"),
            ("$$$$(A)", "$$(A)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("$($(A)", "$($(A)"),
            ("ü$(A)ü$ü", "üaü$ü"),
        ] {
            assert_eq!(expand(text, value), expected, "{text}");
        }
    }
}
