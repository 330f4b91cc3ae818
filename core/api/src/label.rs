//! The syntax of label keys and values, in the wording of Kubernetes.
//!
//! Source: k8s.io/apimachinery/pkg/util/validation (`IsQualifiedName`, `IsValidLabelValue`).

const NAME_PATTERN: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const VALUE_PATTERN: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const SUBDOMAIN_PATTERN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const CHARACTERS: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                          alphanumeric character";

/// What is wrong with a label key, taint key, annotation key or resource name (`prefix/name`); empty if nothing.
#[must_use]
pub fn key_problems(key: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let name = match key.split_once('/') {
        None => key,
        Some((_, rest)) if rest.contains('/') => {
            return vec![format!(
                "a qualified name {CHARACTERS} (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation \
                 is '{NAME_PATTERN}') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
        Some((prefix, name)) => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".to_owned());
            } else {
                problems.extend(subdomain_problems(prefix).into_iter().map(|problem| format!("prefix part {problem}")));
            }
            name
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        problems.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_name(name) {
        problems.push(format!(
            "name part {CHARACTERS} (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
             '{NAME_PATTERN}')"
        ));
    }
    problems
}

/// What is wrong with a label value; empty if nothing.
#[must_use]
pub fn value_problems(value: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if value.len() > 63 {
        problems.push("must be no more than 63 bytes".to_owned());
    }
    if !value.is_empty() && !is_name(value) {
        problems.push(format!(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
             validation is '{VALUE_PATTERN}')"
        ));
    }
    problems
}

/// What is wrong with a DNS subdomain (RFC 1123), which most object names are; empty if nothing.
#[must_use]
pub fn subdomain_problems(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > 253 {
        problems.push("must be no more than 253 bytes".to_owned());
    }
    if !text.split('.').all(is_dns_label) {
        problems.push(format!(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '{SUBDOMAIN_PATTERN}')"
        ));
    }
    problems
}

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    bytes.first().is_some_and(plain)
        && bytes.last().is_some_and(plain)
        && bytes.iter().all(|byte| plain(byte) || *byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_judged() {
        let long = "a".repeat(64);
        for good in ["a", "A.b_c-9", "example.com/name"] {
            assert_eq!(key_problems(good), Vec::<String>::new(), "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "-a", "a b", "UPPER.com/a", "ü", &long] {
            assert!(!key_problems(bad).is_empty(), "{bad}");
        }
        assert!(value_problems("").is_empty());
        assert!(value_problems("v1.2_3").is_empty());
        assert!(!value_problems("a/b").is_empty());
        assert!(!value_problems(&long).is_empty());
        assert!(!subdomain_problems("a..b").is_empty());
    }
}
