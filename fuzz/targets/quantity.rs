//! Quantities: what was read is written, and read again as the same.
#![no_main]

use corten_api::quantity::Quantity;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(quantity) = text.parse::<Quantity>() else { return };
    let written = quantity.to_string();
    let again = written.parse::<Quantity>();
    assert_eq!(again, Ok(quantity), "{written}");
    assert_eq!(quantity.to_string(), written);
});
