//! Protobuf: an object that was read is written, and read again as the same.
#![no_main]

use corten_fuzz::{PROTOBUF, kind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((first, body)) = input.split_first() else { return };
    let (version, own, _) = kind(*first);
    let Ok(decoded) = PROTOBUF.decode(body, Some((version, own))) else { return };
    let text = |name: &str| decoded.value[name].as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text("apiVersion"), text("kind"));
    let json = decoded.value.to_string();
    // Values that a type cannot hold are refused.
    let Ok(written) = PROTOBUF.encode(&version, &kind, json.as_bytes()) else { return };
    let again = PROTOBUF.decode(&written, None).expect("what we write can be read");
    assert_eq!(again.value, decoded.value);
});
