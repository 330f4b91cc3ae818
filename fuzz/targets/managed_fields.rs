//! managedFields as clients send them: what was read is written, and read again as the same.
#![no_main]

use corten_api::apply::Managers;
use corten_fuzz::values;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some([managed]) = values(input) else { return };
    let Ok(managers) = Managers::parse(&managed) else { return };
    let Some(written) = managers.encode() else { return };
    let again = Managers::parse(&written).expect("what we write can be read");
    assert_eq!(again.encode(), Some(written.clone()));
    assert_eq!(Managers::stored(Some(written.clone())).encode(), Some(written));
});
