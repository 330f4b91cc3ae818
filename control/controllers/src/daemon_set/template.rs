//! The pods of a DaemonSet: one for each node, named in its affinity, so that the scheduler places it there and nowhere
//! else.

use corten_api::api::apps::v1::DaemonSet;
use corten_api::api::core::v1::{
    Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, PodTemplateSpec,
    Toleration,
};
use corten_api::placement::{selects, tolerates};
use kube::ResourceExt;

use crate::{history, own_pods};

/// Counts the changes of the template, on the set and on its pods.
const GENERATION: &str = "deprecated.daemonset.template.generation";
const POD_GENERATION: &str = "pod-template-generation";

/// Taints that every daemon pod tolerates: a daemon runs where others no longer do, or do not yet.
const TOLERATED: &[(&str, &str)] = &[
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
/// And one that uses its node's network does not wait for the network of pods.
const NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

fn generation(set: &DaemonSet) -> Option<&String> {
    set.annotations().get(GENERATION)
}

/// Whether a pod is of the set's current template, whose revision has this hash.
pub(super) fn is_updated(set: &DaemonSet, pod: &Pod, hash: &str) -> bool {
    let label = |name: &str| pod.labels().get(name);
    let of_generation = generation(set).is_some_and(|own| label(POD_GENERATION) == Some(own));
    of_generation || label(history::HASH).is_some_and(|own| own == hash)
}

/// The template that the set's pods are made of.
pub(super) fn template(set: &DaemonSet, hash: &str) -> PodTemplateSpec {
    let mut template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(history::HASH.to_owned(), hash.to_owned());
    labels.extend(generation(set).map(|own| (POD_GENERATION.to_owned(), own.clone())));
    let spec = template.spec.get_or_insert_default();
    let network = Some(NETWORK).filter(|_| spec.host_network == Some(true));
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in TOLERATED.iter().copied().chain(network) {
        // A toleration of the set's own for the same is put in order: it has no end and asks for no value.
        tolerations.retain(|own| own.key.as_deref() != Some(key) || own.effect.as_deref() != Some(effect));
        tolerations.push(Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        });
    }
    template
}

/// The pod for a node.
pub(super) fn pod_for(set: &DaemonSet, template: &PodTemplateSpec, node: &str) -> Pod {
    let mut pod = own_pods::of_template(set, template);
    let requirement = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    // What else the set requires of nodes has been looked at here.
    let term = NodeSelectorTerm { match_fields: Some(vec![requirement]), match_expressions: None };
    let affinity = pod.spec.get_or_insert_default().affinity.get_or_insert_default();
    let affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
    pod
}

/// What a node means for the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is to run a pod.
    Runs,
    /// It gets no pod, but one that is there stays.
    Keeps,
    /// It is to have none.
    Not,
}

/// `spec` is that of the set's template, with all tolerations.
pub(super) fn verdict(spec: &PodSpec, node: &Node) -> Verdict {
    let name = node.name_any();
    let named = spec.node_name.as_deref().is_none_or(|own| own.is_empty() || own == name);
    if !named || !selects(spec, &name, node.metadata.labels.as_ref()) {
        return Verdict::Not;
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let repels = |effect: &str| taints.clone().any(|taint| taint.effect == effect && !tolerates(tolerations, taint));
    match (repels("NoExecute"), repels("NoSchedule")) {
        (true, _) => Verdict::Not,
        (false, true) => Verdict::Keeps,
        (false, false) => Verdict::Runs,
    }
}
