//! Text without what differs from run to run.

/// What random names are made of: no vowels, nothing that looks like one.
const RANDOM: &str = "bcdfghjklmnpqrstvwxz2456789";

/// The text with ages, addresses, ids, times, versions and generated names replaced, columns two spaces apart, and
/// neither trailing spaces nor empty lines at its end.
#[must_use]
pub fn plain(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| columns(&words(line))).collect();
    lines.join("\n").trim_end().to_owned()
}

/// Runs of spaces that are not at the line's beginning as two.
fn columns(line: &str) -> String {
    let indent = line.len() - line.trim_start().len();
    let (indent, line) = line.split_at(indent);
    let mut new = indent.to_owned();
    let mut spaces = 0;
    for letter in line.trim_end().chars() {
        if letter == ' ' {
            spaces += 1;
        } else {
            new.push_str(&" ".repeat(spaces.min(2)));
            spaces = 0;
            new.push(letter);
        }
    }
    new
}

fn words(line: &str) -> String {
    let mut new = String::new();
    let mut word = String::new();
    for letter in line.chars() {
        if letter.is_ascii_alphanumeric() || "-_.:".contains(letter) {
            word.push(letter);
        } else {
            new.push_str(&replaced(&word, &new));
            word.clear();
            new.push(letter);
        }
    }
    new.push_str(&replaced(&word, &new));
    new
}

/// What stands for a word after the part of the line before it.
fn replaced(word: &str, before: &str) -> String {
    if word.is_empty() {
        return String::new();
    }
    let spaced = before.is_empty() || before.ends_with([' ', '(', '\t']);
    let trimmed = word.trim_end_matches([':', '.']);
    let tail = &word[trimmed.len()..];
    if before.trim_end_matches('"').trim_end().ends_with("resourceVersion:") {
        return format!("<version>{tail}");
    }
    let token = trimmed.split('.').count() == 3 && trimmed.starts_with("eyJ");
    let new = if is_uid(trimmed) {
        "<uid>".to_owned()
    } else if token {
        "<token>".to_owned()
    } else if is_time(trimmed) {
        "<time>".to_owned()
    } else if spaced && is_age(trimmed) {
        "<age>".to_owned()
    } else if let Some(rest) = address(trimmed) {
        format!("<ip>{rest}")
    } else {
        generated(trimmed)
    };
    new + tail
}

fn is_uid(word: &str) -> bool {
    let lengths = word.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && word.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

fn is_time(word: &str) -> bool {
    word.len() >= 20 && word.ends_with('Z') && word.as_bytes().get(10) == Some(&b'T') && word.starts_with("20")
}

/// `5s`, `1m30s`, `2m`, but no quantity such as `100m`.
fn is_age(word: &str) -> bool {
    let mut number = String::new();
    let mut parts = 0;
    for letter in word.chars() {
        match letter {
            '0'..='9' => number.push(letter),
            // kubectl counts seconds up to two minutes, and no quantity is in seconds.
            's' | 'm' | 'h' if !number.is_empty() && (number.len() < 3 || letter == 's') => {
                parts += 1;
                number.clear();
            }
            _ => return false,
        }
    }
    number.is_empty() && parts > 0
}

/// What follows an IPv4 address that the word begins with, such as a port.
fn address(word: &str) -> Option<&str> {
    let (host, port) = word.split_once(':').map_or((word, ""), |(host, _)| (host, &word[host.len()..]));
    let numbers: Vec<&str> = host.split('.').collect();
    (numbers.len() == 4 && numbers.iter().all(|number| number.parse::<u8>().is_ok())).then_some(port)
}

/// A name with what a generator added as `<hash>` (a template's) or `<id>`.
fn generated(word: &str) -> String {
    let random = |part: &str| part.chars().all(|letter| RANDOM.contains(letter));
    let mut parts: Vec<&str> = word.split('-').collect();
    if parts.len() < 2 {
        return word.to_owned();
    }
    if let Some(last) = parts.last_mut()
        && last.len() == 5
        && random(last)
    {
        *last = "<id>";
    }
    for part in parts.iter_mut().skip(1).filter(|part| (8..=10).contains(&part.len()) && random(part)) {
        *part = "<hash>";
    }
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_replaced() {
        for (text, wanted) in [
            ("pod/web-t594rd7c9q-24nnp   1/1  Running   0   12s  ", "pod/web-<hash>-<id>  1/1  Running  0  <age>"),
            ("  uid: 01234567-89ab-cdef-0123-456789abcdef", "  uid: <uid>"),
            ("created 2026-11-24T19:20:06Z.", "created <time>."),
            ("kubernetes ClusterIP 10.43.0.1 <none> 443/TCP 1m3s", "kubernetes ClusterIP <ip> <none> 443/TCP <age>"),
            ("https://172.30.0.1:6443", "https://<ip>:6443"),
            ("delay=0s timeout=1s cpu 100m", "delay=0s timeout=1s cpu 100m"),
            ("node-1 node-1 107s", "node-1 node-1 <age>"),
            ("kube-root-ca.crt 1 3s\n\n", "kube-root-ca.crt 1 <age>"),
            ("resourceVersion: \"17\"", "resourceVersion: \"<version>\""),
            ("default-token web-https", "default-token web-<id>"),
        ] {
            assert_eq!(plain(text), wanted);
        }
    }
}
