//! JSON: what was read once is read again as the same, and fits its type the second time as it did the first.
#![no_main]

use corten_api::codec::{self, Findings};
use corten_fuzz::{SCHEMA, kind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((first, text)) = input.split_first() else { return };
    let Ok((mut value, _)) = codec::json(text) else { return };
    let again = codec::json(value.to_string().as_bytes()).expect("what we write is JSON");
    assert_eq!((&again.0, again.1.duplicate.len()), (&value, 0));
    let (_, _, root) = kind(*first);
    if codec::conform(&SCHEMA, root, &mut value, &mut Findings::default()).is_err() {
        return;
    }
    let (mut again, mut findings) = (value.clone(), Findings::default());
    codec::conform(&SCHEMA, root, &mut again, &mut findings).expect("it fitted before");
    assert_eq!((again, findings), (value, Findings::default()));
});
