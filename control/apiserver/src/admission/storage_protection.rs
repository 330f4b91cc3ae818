//! StorageObjectInUseProtection: volumes and claims stay as long as somebody uses them. A controller lets them go.

use corten_api::names::Names;
use corten_api::status::Status;
use serde_json::Value;

use super::{Attempt, Plugin, append, is, list};

/// Kind and what holds it.
const FINALIZERS: [(&str, &str, &str); 3] = [
    ("", "PersistentVolume", "kubernetes.io/pv-protection"),
    ("", "PersistentVolumeClaim", "kubernetes.io/pvc-protection"),
    ("storage.k8s.io", "VolumeAttributesClass", "kubernetes.io/vac-protection"),
];

pub(super) struct StorageObjectInUseProtection;

impl Plugin for StorageObjectInUseProtection {
    fn changes(&self, names: &Names) -> bool {
        finalizer(names).is_some()
    }

    fn admit(&self, write: &Attempt<'_>, object: &mut Value) -> Result<(), Status> {
        if let (None, Some(finalizer)) = (write.old, finalizer(write.names()))
            && !list(&object["metadata"], "finalizers").iter().any(|own| own == finalizer)
        {
            append(&mut object["metadata"], "finalizers", finalizer.into());
        }
        Ok(())
    }
}

fn finalizer(names: &Names) -> Option<&'static str> {
    FINALIZERS.iter().find(|(group, kind, _)| is(names, group, kind)).map(|(.., finalizer)| *finalizer)
}
