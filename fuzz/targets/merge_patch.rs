//! Merge patch: what is patched already is not changed by the same patch.
#![no_main]

use corten_api::patch::merge_patch;
use corten_fuzz::values;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some([mut once, patch]) = values(input) else { return };
    merge_patch(&mut once, &patch);
    let mut twice = once.clone();
    merge_patch(&mut twice, &patch);
    assert_eq!(twice, once);
});
