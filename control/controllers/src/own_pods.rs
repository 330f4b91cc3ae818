//! Pods that an owner makes and deletes, with the events that tell of it.
//!
//! Behaviour: RealPodControl in pkg/controller/controller_utils.go of Kubernetes v1.36.

use std::sync::Arc;

use corten_api::api::core::v1::{Pod, PodTemplateSpec};
use corten_api::meta::ObjectMeta;
use corten_client::{Informer, Kind, Writes, reference};
use futures::future::join_all;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};

use crate::context::{Context, Error, namespace_ends, or_gone};
use crate::owners;

/// A pod of this template that `owner` controls. The API server gives it a name that begins with the owner's.
pub(crate) fn of_template<O: Resource<DynamicType = ()>>(owner: &O, template: &PodTemplateSpec) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", owner.name_any())),
            namespace: owner.namespace(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owners::reference(owner)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Makes pods: one, then twice as many each time, so that a template that is refused is refused once, not a hundred
/// times. In a namespace that is ending nothing can be made, and that is no failure.
pub(crate) async fn create<O>(
    cx: &Context,
    owner: &O,
    pods: Vec<Pod>,
    cache: &Informer<Pod>,
    writes: &mut Writes,
) -> Result<(), Error>
where
    O: Kind + Resource<Scope = NamespaceResourceScope>,
{
    let api: Api<Pod> = Api::namespaced(cx.client.clone(), &owner.namespace().unwrap_or_default());
    let (params, clock) = (PostParams::default(), &cx.config.clock);
    let (mut left, mut size) = (&*pods, 1);
    while !left.is_empty() {
        let (batch, rest) = left.split_at(size.min(left.len()));
        let mut failure = None;
        for result in join_all(batch.iter().map(|pod| api.create(&params, pod))).await {
            match result {
                Ok(pod) => {
                    writes.note(cache, &pod);
                    let message = format!("Created pod: {}", pod.name_any());
                    cx.recorder.normal(clock, reference(owner), "SuccessfulCreate", message);
                }
                Err(error) if namespace_ends(&error) => return Ok(()),
                Err(error) => failure = Some(Error::from(error)),
            }
        }
        if let Some(error) = failure {
            let message = format!("Error creating: {error}");
            cx.recorder.warning(clock, reference(owner), "FailedCreate", message);
            return Err(error);
        }
        (left, size) = (rest, size * 2);
    }
    Ok(())
}

/// Deletes pods, all at once; one that is gone already counts as deleted.
pub(crate) async fn delete<O>(
    cx: &Context,
    owner: &O,
    pods: &[Arc<Pod>],
    cache: &Informer<Pod>,
    writes: &mut Writes,
) -> Result<(), Error>
where
    O: Kind + Resource<Scope = NamespaceResourceScope>,
{
    let api: Api<Pod> = Api::namespaced(cx.client.clone(), &owner.namespace().unwrap_or_default());
    let deletions = pods.iter().map(|pod| {
        let api = api.clone();
        let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        async move { (pod, api.delete(&pod.name_any(), &params).await) }
    });
    let (clock, mut failure) = (&cx.config.clock, None);
    for (pod, result) in join_all(deletions).await {
        match or_gone(result) {
            Ok(None) => {}
            Ok(Some(either)) => {
                either.map_left(|pod| writes.note(cache, &pod));
                let message = format!("Deleted pod: {}", pod.name_any());
                cx.recorder.normal(clock, reference(owner), "SuccessfulDelete", message);
            }
            Err(error) => {
                let error = Error::from(error);
                cx.recorder.warning(clock, reference(owner), "FailedDelete", format!("Error deleting: {error}"));
                failure = Some(error);
            }
        }
    }
    failure.map_or(Ok(()), Err)
}
