//! Strategic merge patch: all or nothing, and no directive is left in an object.
#![no_main]

use corten_api::patch::strategic_merge_patch;
use corten_fuzz::{SCHEMA, conform, kind, values};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first() else { return };
    let Some([old, patch]) = values(rest) else { return };
    let (_, _, root) = kind(*first);
    let Some(old) = conform(root, old) else { return };
    let mut new = old.clone();
    match strategic_merge_patch(&SCHEMA, root, &mut new, &patch) {
        Err(_) => assert_eq!(new, old),
        Ok(()) => drop(conform(root, new)),
    }
});
