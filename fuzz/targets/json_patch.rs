//! JSON patch: all or nothing.
#![no_main]

use corten_api::patch::json_patch;
use corten_fuzz::values;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some([old, patch]) = values(input) else { return };
    let mut new = old.clone();
    if json_patch(&mut new, &patch).is_err() {
        assert_eq!(new, old);
    }
});
