//! DefaultStorageClass: claims that name no class get the default one, if there is one.

use corten_api::names::Names;
use corten_api::status::Status;
use serde_json::Value;

use super::{Attempt, Plugin, is};

const MARKS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
/// How claims named their class before there was a field.
const ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) struct DefaultStorageClass;

impl Plugin for DefaultStorageClass {
    fn changes(&self, names: &Names) -> bool {
        is(names, "", "PersistentVolumeClaim")
    }

    fn admit(&self, write: &Attempt<'_>, claim: &mut Value) -> Result<(), Status> {
        let named = !claim["spec"]["storageClassName"].is_null();
        if write.old.is_some() || named || claim["metadata"]["annotations"].get(ANNOTATION).is_some() {
            return Ok(());
        }
        if let Some(class) = write.default_class("storageclasses", &MARKS) {
            claim["spec"]["storageClassName"] = class["metadata"]["name"].clone();
        }
        Ok(())
    }
}
