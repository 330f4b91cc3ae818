//! YAML: what it says can be said in JSON.
#![no_main]

use corten_api::codec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok((value, _)) = codec::yaml(input) else { return };
    let (again, findings) = codec::json(value.to_string().as_bytes()).expect("a value is JSON");
    assert_eq!((again, findings.duplicate.len()), (value, 0));
});
