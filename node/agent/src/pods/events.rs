//! Events of one pod.

use std::sync::Arc;

use corten_api::api::core::v1::{ObjectReference, Pod};
use corten_base::Clock;
use corten_client::{Recorder, reference};

use crate::lookup::ContainerKind;
use crate::pods::model::containers;

/// Records events about a pod or one of its containers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Events {
    recorder: Arc<Recorder>,
    clock: Clock,
    pod: Arc<Pod>,
}

impl Events {
    pub(crate) fn new(recorder: Arc<Recorder>, clock: Clock, pod: Arc<Pod>) -> Self {
        Self { recorder, clock, pod }
    }

    pub(crate) fn normal(&self, container: Option<&str>, reason: &str, message: impl Into<String>) {
        self.recorder.normal(&self.clock, self.object(container), reason, message);
    }

    pub(crate) fn warning(&self, container: Option<&str>, reason: &str, message: impl Into<String>) {
        self.recorder.warning(&self.clock, self.object(container), reason, message);
    }

    fn object(&self, container: Option<&str>) -> ObjectReference {
        let spec = self.pod.spec.as_ref();
        let field_path = container.and_then(|name| {
            let (kind, _) = containers(spec?).find(|(_, container)| container.name == name)?;
            let list = if kind == ContainerKind::Main { "containers" } else { "initContainers" };
            Some(format!("spec.{list}{{{name}}}"))
        });
        ObjectReference { field_path, ..reference(&*self.pod) }
    }
}
