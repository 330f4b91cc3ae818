//! The pods that a job makes.

use corten_api::api::batch::v1::{Job, JobSpec};
use corten_api::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use corten_api::meta::ObjectMeta;
use kube::ResourceExt;

use super::members::{FAILURES, FINALIZER, IGNORED_FAILURES, INDEX};
use crate::owners;

const VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// The longest beginning of a name that leaves room for what the server adds.
const MOST_PREFIX: usize = 58;

/// What tells one pod of a job from another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) index: Option<i32>,
    /// How many pods of this index failed, and how many of these did not matter, if each index has its own limit.
    pub(super) failures: Option<(i32, i32)>,
}

pub(super) fn pod(job: &Job, spec: &JobSpec, identity: &Identity) -> Pod {
    let mut meta = spec.template.metadata.clone().unwrap_or_default();
    let mut pod_spec = spec.template.spec.clone().unwrap_or_default();
    let mut prefix = format!("{}-", job.name_any());
    if let Some(index) = identity.index {
        let text = index.to_string();
        let annotations = meta.annotations.get_or_insert_default();
        annotations.insert(INDEX.to_owned(), text.clone());
        if let Some((failures, ignored)) = identity.failures {
            annotations.insert(FAILURES.to_owned(), failures.to_string());
            if ignored > 0 {
                annotations.insert(IGNORED_FAILURES.to_owned(), ignored.to_string());
            }
        }
        meta.labels.get_or_insert_default().insert(INDEX.to_owned(), text.clone());
        pod_spec.hostname = Some(format!("{}-{text}", job.name_any()));
        let all = pod_spec.containers.iter_mut().chain(pod_spec.init_containers.iter_mut().flatten());
        all.for_each(tell_index);
        // The index stays in the name, however long the job's is.
        let rest = format!("-{text}-");
        let mut name = job.name_any();
        name.truncate(MOST_PREFIX - rest.len());
        prefix = name + &rest;
    }
    let finalizers = meta.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|own| own == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
    }
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(prefix),
            namespace: job.namespace(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owners::reference(job)]),
            ..ObjectMeta::default()
        },
        spec: Some(pod_spec),
        status: None,
    }
}

fn tell_index(container: &mut Container) {
    let env = container.env.get_or_insert_default();
    if env.iter().any(|own| own.name == VARIABLE) {
        return;
    }
    let field = ObjectFieldSelector { api_version: None, field_path: format!("metadata.labels['{INDEX}']") };
    let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    env.push(EnvVar { name: VARIABLE.to_owned(), value: None, value_from: Some(source) });
}
