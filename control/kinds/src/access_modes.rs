//! Access modes of volumes, for volumes and claims alike.

use corten_api::field::FieldErrors;

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// As tables show them, and in this order.
const SHORT: [(&str, &str); 4] =
    [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];

/// The annotation by which a class was named before there was a field.
pub(crate) const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// Modes as tables show them: `RWO,ROX`.
pub(crate) fn shown(modes: Option<&Vec<String>>) -> String {
    let has = |mode: &str| modes.is_some_and(|modes| modes.iter().any(|own| own == mode));
    SHORT.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

pub(crate) fn validate(modes: &[String], path: &str, errs: &mut FieldErrors) {
    for mode in modes {
        if !MODES.contains(&mode.as_str()) {
            errs.not_supported(path, mode, &MODES);
        }
    }
    let (once, others): (Vec<&String>, Vec<&String>) = modes.iter().partition(|mode| *mode == "ReadWriteOncePod");
    if !once.is_empty() && !others.is_empty() {
        errs.forbidden(path, "may not use ReadWriteOncePod with other access modes");
    }
}
