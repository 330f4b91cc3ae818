//! Addresses, ranges and ports in fields.
//!
//! Wording: k8s.io/apimachinery/pkg/util/validation.

use std::net::IpAddr;

use corten_api::IntOrString;
use corten_api::field::FieldErrors;
use corten_api::label;

pub(crate) const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
pub(crate) const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";
const ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const RANGE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// An IP address; `None`, with the mistake told, if it is none.
pub(crate) fn address(text: &str, path: &str, errs: &mut FieldErrors) -> Option<IpAddr> {
    let address = text.parse().ok();
    if address.is_none() {
        errs.invalid(path, text, ADDRESS);
    }
    address
}

/// A range of addresses such as 10.0.0.0/8: its address as written, and the length of its prefix.
pub(crate) fn parse_range(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let length: u8 = length.parse().ok().filter(|_| digits)?;
    (length <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, length))
}

/// A range of addresses; `None`, with the mistake told, if it is none.
pub(crate) fn range(text: &str, path: &str, errs: &mut FieldErrors) -> Option<(IpAddr, u8)> {
    let range = parse_range(text);
    if range.is_none() {
        errs.invalid(path, text, RANGE);
    }
    range
}

/// Whether the first range holds the second and more.
pub(crate) fn is_strictly_within((outer, outer_length): (IpAddr, u8), (inner, inner_length): (IpAddr, u8)) -> bool {
    outer_length < inner_length && network(outer, outer_length) == network(inner, outer_length)
}

/// The first address of a range.
pub(crate) fn network(address: IpAddr, length: u8) -> IpAddr {
    let length = u32::from(length);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            IpAddr::from((u32::from(address) & mask).to_be_bytes())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            IpAddr::from((u128::from(address) & mask).to_be_bytes())
        }
    }
}

/// A port number.
pub(crate) fn port(number: i32, path: &str, errs: &mut FieldErrors) {
    if !(1..=65_535).contains(&number) {
        errs.invalid(path, number, PORT_RANGE);
    }
}

/// What is wrong with the name of a port.
pub(crate) fn port_name_problems(name: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if name.len() > 15 {
        problems.push("must be no more than 15 bytes".to_owned());
    }
    if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        problems.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        problems.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        problems.push("must not begin or end with a hyphen".to_owned());
    }
    problems
}

/// A port by number or by name.
pub(crate) fn port_or_name(port: &IntOrString, path: &str, errs: &mut FieldErrors) {
    match port {
        IntOrString::Int(number) => self::port(*number, path, errs),
        IntOrString::String(name) => {
            port_name_problems(name).into_iter().for_each(|why| errs.invalid(path, name, why));
        }
    }
}

/// A protocol that ports have.
pub(crate) fn protocol(protocol: &str, path: &str, errs: &mut FieldErrors) {
    if !PROTOCOLS.contains(&protocol) {
        errs.not_supported(path, protocol, PROTOCOLS);
    }
}

/// What is wrong with a DNS name that may begin with `*.`.
pub(crate) fn wildcard_problems(name: &str) -> Vec<String> {
    let fits =
        name.len() <= 253 && name.strip_prefix("*.").is_some_and(|rest| label::subdomain_problems(rest).is_empty());
    if fits {
        return Vec::new();
    }
    vec![
        "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of \
         lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', \
         regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            .to_owned(),
    ]
}

/// `example.com/path`, as controllers and signers are named.
pub(crate) fn domain_path(text: &str, path: &str, errs: &mut FieldErrors) {
    if text.is_empty() {
        return errs.required(path, "");
    }
    let Some((domain, rest)) = text.split_once('/').filter(|(domain, rest)| !domain.is_empty() && !rest.is_empty())
    else {
        return errs.invalid(path, text, "must be a domain-prefixed path (such as \"acme.io/foo\")");
    };
    label::subdomain_problems(domain).into_iter().for_each(|why| errs.invalid(path, domain, why));
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    if !rest.bytes().all(fits) {
        let why = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        errs.invalid(path, rest, why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_compared() {
        for bad in ["10.0.0.0", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/+8", "/8", "10.0.0.0/"] {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
        let within = |outer: &str, inner: &str| {
            is_strictly_within(parse_range(outer).expect("a range"), parse_range(inner).expect("a range"))
        };
        assert!(
            within("10.0.0.0/8", "10.1.0.0/16") && within("0.0.0.0/0", "10.0.0.0/8") && within("::/0", "2001::/16")
        );
        assert!(!within("10.0.0.0/8", "10.0.0.0/8") && !within("10.0.0.0/8", "11.0.0.0/16"));
        assert!(!within("::/0", "10.0.0.0/8"));
    }

    #[test]
    fn port_names_are_judged() {
        for good in ["http", "a", "1a", "a-1", "abcdefghijklmno"] {
            assert_eq!(port_name_problems(good), Vec::<String>::new(), "{good}");
        }
        for bad in ["", "80", "a--b", "-a", "a-", "A", "abcdefghijklmnop"] {
            assert!(!port_name_problems(bad).is_empty(), "{bad}");
        }
    }
}
