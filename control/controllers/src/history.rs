//! Revisions: what a template was over time, so that a rollout can be undone. StatefulSets and DaemonSets keep theirs in
//! ControllerRevisions.
//!
//! Behaviour: pkg/controller/history of Kubernetes v1.36.
//! Invariant: one template has one revision; going back to it gives that revision the newest number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corten_api::api::apps::v1::ControllerRevision;
use corten_api::api::core::v1::PodTemplateSpec;
use corten_api::k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use corten_api::meta::ObjectMeta;
use corten_client::{Informer, Kind, Writes};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};

use crate::context::{Context, Error, or_gone, or_there};
use crate::owners;

/// The label by which pods name their revision.
pub(crate) const HASH: &str = "controller-revision-hash";
/// As long as this the name of an owner may be in the name of its revision.
const LONGEST_PREFIX: usize = 223;
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A short name for a template. Same alphabet as upstream's; the value is ours.
pub(crate) fn hash(template: &PodTemplateSpec, collisions: i32) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let text = serde_json::to_string(template).unwrap_or_default();
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let mut hash = text.as_bytes().iter().chain(&collisions.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, fnv);
    let mut letters = String::with_capacity(10);
    for _ in 0..10 {
        letters.push(char::from(LETTERS[usize::try_from(hash % LETTERS.len() as u64).unwrap_or(0)]));
        hash /= LETTERS.len() as u64;
    }
    letters
}

/// What a revision keeps of a template: a strategic patch that puts it back, which is how clients undo a rollout. Its keys
/// are in order, since clients (kubectl, upstream's tests) compare its bytes with those that they make themselves.
fn data(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    template["$patch"] = "replace".into();
    in_order(json!({"spec": {"template": template}}))
}

fn in_order(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<String, Value> =
                fields.into_iter().map(|(key, value)| (key, in_order(value))).collect();
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => items.into_iter().map(in_order).collect(),
        value => value,
    }
}

/// The template that a revision keeps.
pub(crate) fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let template = revision.data.as_ref()?.0.pointer("/spec/template")?;
    serde_json::from_value(template.clone()).ok()
}

/// Revisions of an owner, oldest first.
pub(crate) fn sorted(mut revisions: Vec<Arc<ControllerRevision>>) -> Vec<Arc<ControllerRevision>> {
    revisions.sort_by_key(|own| {
        let created = own.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (own.revision, created, own.name_any())
    });
    revisions
}

/// How the template that an owner has now stands to its revisions.
#[derive(Debug)]
pub(crate) enum Standing {
    /// It is the newest.
    Newest(Arc<ControllerRevision>),
    /// It had its turn before, and gets this number now.
    Again(Arc<ControllerRevision>, i64),
    /// It is new and gets this number.
    New(i64),
}

/// `revisions` are sorted.
pub(crate) fn standing(revisions: &[Arc<ControllerRevision>], template: &PodTemplateSpec) -> Standing {
    let newest = revisions.last().map_or(0, |revision| revision.revision);
    let data = data(template);
    let same = revisions.iter().rev().find(|revision| revision.data.as_ref().is_some_and(|own| own.0 == data));
    match same {
        None => Standing::New(newest.saturating_add(1)),
        // Two may have the same number if others made one of them.
        Some(same) if same.revision == newest => Standing::Newest(Arc::clone(same)),
        Some(same) => Standing::Again(Arc::clone(same), newest.saturating_add(1)),
    }
}

/// Revisions beyond the limit that nothing lives by, the oldest first. `revisions` are sorted.
pub(crate) fn surplus(
    revisions: &[Arc<ControllerRevision>],
    limit: Option<i32>,
    lives: impl Fn(&ControllerRevision) -> bool,
) -> Vec<Arc<ControllerRevision>> {
    let limit = usize::try_from(limit.unwrap_or(10)).unwrap_or(0);
    let dead: Vec<&Arc<ControllerRevision>> = revisions.iter().filter(|revision| !lives(revision)).collect();
    dead.iter().take(dead.len().saturating_sub(limit)).map(|revision| Arc::clone(revision)).collect()
}

/// The revisions that pods name in their label.
pub(crate) fn named_by<'a>(pods: impl IntoIterator<Item = &'a ObjectMeta>) -> BTreeSet<&'a str> {
    pods.into_iter().filter_map(|meta| meta.labels.as_ref()?.get(HASH)).map(String::as_str).collect()
}

/// The revisions of one owner, in the API.
pub(crate) struct History<'a, O> {
    pub(crate) cx: &'a Context,
    pub(crate) owner: &'a O,
    /// The label in which its revisions carry their hash.
    pub(crate) label: &'a str,
    pub(crate) cache: &'a Informer<ControllerRevision>,
}

impl<O> History<'_, O>
where
    O: Kind + Resource<Scope = NamespaceResourceScope>,
{
    fn api(&self) -> Api<ControllerRevision> {
        Api::namespaced(self.cx.client.clone(), &self.owner.namespace().unwrap_or_default())
    }

    /// Sees to it that the template is the newest revision; returns that. `collisions` counts the names that were taken
    /// by revisions of other templates.
    pub(crate) async fn record(
        &self,
        revisions: &[Arc<ControllerRevision>],
        template: &PodTemplateSpec,
        collisions: &mut Option<i32>,
        writes: &mut Writes,
    ) -> Result<Arc<ControllerRevision>, Error> {
        match standing(revisions, template) {
            Standing::Newest(revision) => Ok(revision),
            Standing::Again(revision, number) => {
                let patch = Patch::Merge(json!({"metadata": {"uid": revision.uid()}, "revision": number}));
                let revision = self.api().patch(&revision.name_any(), &PatchParams::default(), &patch).await?;
                writes.note(self.cache, &revision);
                Ok(Arc::new(revision))
            }
            Standing::New(number) => self.create(template, number, collisions, writes).await,
        }
    }

    async fn create(
        &self,
        template: &PodTemplateSpec,
        number: i64,
        collisions: &mut Option<i32>,
        writes: &mut Writes,
    ) -> Result<Arc<ControllerRevision>, Error> {
        loop {
            let revision = self.revision(template, number, collisions.unwrap_or(0));
            if let Some(made) = or_there(self.api().create(&PostParams::default(), &revision).await)? {
                writes.note(self.cache, &made);
                return Ok(Arc::new(made));
            }
            let there = self.api().get_opt(&revision.name_any()).await?;
            match there {
                // It was made by this owner before, and the cache did not know.
                Some(there) if there.data == revision.data && self.owns(&there) => return Ok(Arc::new(there)),
                _ => *collisions = Some(collisions.unwrap_or(0).saturating_add(1)),
            }
        }
    }

    fn owns(&self, revision: &ControllerRevision) -> bool {
        owners::is_controlled_by(&revision.metadata, self.owner.meta())
    }

    /// A revision of this template.
    fn revision(&self, template: &PodTemplateSpec, number: i64, collisions: i32) -> ControllerRevision {
        let hash = hash(template, collisions);
        let owner = self.owner.name_any();
        let prefix = owner.get(..LONGEST_PREFIX).unwrap_or(&owner);
        let mut labels = template.metadata.clone().and_then(|meta| meta.labels).unwrap_or_default();
        labels.insert(self.label.to_owned(), hash.clone());
        let mut annotations = self.owner.annotations().clone();
        annotations.remove(LAST_APPLIED);
        ControllerRevision {
            metadata: ObjectMeta {
                name: Some(format!("{prefix}-{hash}")),
                namespace: self.owner.namespace(),
                labels: Some(labels),
                annotations: Some(annotations),
                owner_references: Some(vec![owners::reference(self.owner)]),
                ..ObjectMeta::default()
            },
            data: Some(RawExtension(data(template))),
            revision: number,
        }
    }

    /// Drops revisions.
    pub(crate) async fn drop(&self, revisions: Vec<Arc<ControllerRevision>>) -> Result<(), Error> {
        for revision in revisions {
            let only = Preconditions { uid: revision.uid(), resource_version: None };
            let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
            or_gone(self.api().delete(&revision.name_any(), &params).await)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(image: &str) -> PodTemplateSpec {
        serde_json::from_value(json!({"spec": {"containers": [{"name": "c", "image": image}]}})).expect("a template")
    }

    fn revision(image: &str, number: i64) -> Arc<ControllerRevision> {
        Arc::new(ControllerRevision {
            metadata: ObjectMeta { name: Some(format!("{image}-{number}")), ..ObjectMeta::default() },
            data: Some(RawExtension(data(&template(image)))),
            revision: number,
        })
    }

    fn show(revisions: Vec<Arc<ControllerRevision>>, image: &str) -> String {
        match standing(&sorted(revisions), &template(image)) {
            Standing::Newest(revision) => format!("newest {}", revision.name_any()),
            Standing::Again(revision, number) => format!("{} becomes {number}", revision.name_any()),
            Standing::New(number) => format!("new {number}"),
        }
    }

    #[test]
    fn a_template_has_one_revision_and_going_back_makes_it_the_newest() {
        let three = || vec![revision("c", 3), revision("a", 1), revision("b", 2)];
        assert_eq!(show(vec![], "a"), "new 1");
        assert_eq!(show(three(), "c"), "newest c-3");
        assert_eq!(show(three(), "d"), "new 4");
        assert_eq!(show(three(), "a"), "a-1 becomes 4");
        // Somebody made another one of the same template: the newer counts.
        assert_eq!(show(vec![revision("a", 1), revision("a", 2)], "a"), "newest a-2");
    }

    #[test]
    fn what_lives_stays_and_the_oldest_of_the_rest_go() {
        let all: Vec<_> = (1..=5).map(|number| revision("a", number)).collect();
        let gone = |limit| -> Vec<i64> {
            surplus(&all, Some(limit), |own| own.revision == 2 || own.revision == 5)
                .iter()
                .map(|own| own.revision)
                .collect()
        };
        assert_eq!(gone(3), Vec::<i64>::new());
        assert_eq!(gone(1), [1, 3]);
        assert_eq!(gone(0), [1, 3, 4]);
    }

    #[test]
    fn a_revision_gives_its_template_back() {
        assert_eq!(template_of(&revision("a", 1)), Some(template("a")));
        let text = data(&template("a")).to_string();
        assert_eq!(
            text,
            r#"{"spec":{"template":{"$patch":"replace","spec":{"containers":[{"image":"a","name":"c"}]}}}}"#
        );
        assert_ne!(hash(&template("a"), 0), hash(&template("a"), 1));
        assert_ne!(hash(&template("a"), 0), hash(&template("b"), 0));
    }
}
