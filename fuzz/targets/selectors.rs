//! Selectors: what was read is written, and read again as the same.
#![no_main]

use corten_api::selector::{Fields, Labels};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(labels) = Labels::parse(text) {
        let again = Labels::parse(&labels.to_string());
        assert_eq!(again.as_ref(), Ok(&labels), "{labels}");
        let _ = labels.matches_by(|key| (key.len() % 2 == 0).then_some("1"));
    }
    if let Ok(fields) = Fields::parse(text) {
        let again = Fields::parse(&fields.to_string());
        assert_eq!(again.as_ref(), Ok(&fields), "{fields}");
    }
});
