//! Server-side apply: a configuration that is applied already changes nothing, neither the object nor who owns what.
#![no_main]

use corten_api::apply::{Author, Managers, OneVersion, Operation, Reset, Typed, apply};
use corten_fuzz::{SCHEMA, conform, kind, values};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first() else { return };
    let Some([live, config, managed]) = values(rest) else { return };
    let (version, _, root) = kind(*first);
    let Some(live) = conform(root, live) else { return };
    let typed = Typed { schema: &SCHEMA, root, versions: &OneVersion };
    let author = Author {
        manager: "fuzzer".to_owned(),
        operation: Operation::Apply,
        api_version: version.to_owned(),
        subresource: String::new(),
        time: "2026-01-01T00:00:00Z".to_owned(),
    };
    let managers = Managers::parse(&managed).unwrap_or_default();
    let Ok(once) = apply(typed, Reset::Status, managers, &author, Some(&live), &config, true) else { return };
    let again = apply(typed, Reset::Status, once.managers.clone(), &author, Some(&once.object), &config, true);
    let again = again.expect("it was applied before");
    assert_eq!(again.object, once.object);
    assert_eq!(again.managers.encode(), once.managers.encode());
});
