//! Says which CSI volumes are to be attached to which nodes, for the drivers that attach them.
//!
//! Behaviour: pkg/controller/volume/attachdetach of Kubernetes v1.36, as far as CSI goes.
//! Invariant: a volume for one node is never attached to two, and none is taken away while its node says that it uses it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use corten_api::api::core::v1::{AttachedVolume, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use corten_api::api::storage::v1::{CSIDriver, VolumeAttachment};
use corten_client::{Informer, Key, Next, Queue, Writes, reference};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::context::{Context, Error, or_gone, or_there};
use crate::persistent_volumes::facts::{claim_of, phase_of_claim, volume_of};
use crate::pods::{claims_of, has_ended};

pub(crate) async fn run(cx: Context) {
    let caches = Caches {
        pods: cx.informers.of(),
        claims: cx.informers.of(),
        volumes: cx.informers.of(),
        drivers: cx.informers.of(),
        attachments: cx.informers.of(),
        nodes: cx.informers.of(),
        told: Arc::default(),
    };
    caches.follow(&cx.queue);
    tokio::join!(
        caches.pods.synced(),
        caches.claims.synced(),
        caches.volumes.synced(),
        caches.drivers.synced(),
        caches.attachments.synced(),
        caches.nodes.synced()
    );
    cx.work(1, move |cx, key| {
        let caches = caches.clone();
        async move {
            let mut writes = Writes::default();
            let result = caches.sync(&cx, &key, &mut writes).await;
            writes.settle().await;
            result.map(|()| Next::Wait)
        }
    })
    .await;
}

/// A volume that pods of a node need attached.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Need {
    driver: String,
    handle: String,
    /// Only one node may have it.
    exclusive: bool,
    pods: Vec<String>,
}

/// What a node needs, has and uses.
#[derive(Debug, Default)]
struct View {
    node: String,
    /// By the volume's name.
    needs: BTreeMap<String, Need>,
    /// Those of all nodes.
    attachments: Vec<Attachment>,
    /// What the node says that it uses, as `driver^handle`.
    in_use: Vec<String>,
    /// The node is there.
    there: bool,
}

#[derive(Clone, Debug, Default)]
struct Attachment {
    name: String,
    node: String,
    volume: String,
    driver: String,
    handle: String,
    attached: bool,
    leaving: bool,
    error: Option<String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// Name of the attachment, driver and volume.
    attach: Vec<(String, String, String)>,
    detach: Vec<String>,
    /// What the node's status is to say, as `driver^handle`.
    attached: Vec<String>,
    trouble: Vec<Trouble>,
}

/// A pod and what hinders it.
type Trouble = (String, String);

/// A name that driver, volume and node decide, as drivers compute it too.
fn name_of(handle: &str, driver: &str, node: &str) -> String {
    let digest = Sha256::digest(format!("{handle}{driver}{node}"));
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("csi-{hex}")
}

fn plan(view: &View) -> Plan {
    let mut plan = Plan::default();
    for (volume, need) in &view.needs {
        let name = name_of(&need.handle, &need.driver, &view.node);
        let tell = |plan: &mut Plan, message: String| {
            plan.trouble.extend(need.pods.iter().map(|pod| (pod.clone(), message.clone())));
        };
        if let Some(own) = view.attachments.iter().find(|own| own.name == name) {
            if let Some(error) = &own.error {
                tell(&mut plan, format!("AttachVolume.Attach failed for volume {volume:?} : {error}"));
            }
            continue;
        }
        let elsewhere = |own: &&Attachment| own.volume == *volume && own.node != view.node;
        if need.exclusive && view.attachments.iter().any(|own| elsewhere(&own)) {
            let why = "Volume is already exclusively attached to one node and can't be attached to another";
            tell(&mut plan, format!("Multi-Attach error for volume {volume:?} {why}"));
        } else if view.there {
            plan.attach.push((name, need.driver.clone(), volume.clone()));
        }
    }
    for own in view.attachments.iter().filter(|own| own.node == view.node) {
        let id = format!("{}^{}", own.driver, own.handle);
        let ours = own.name == name_of(&own.handle, &own.driver, &own.node);
        if own.attached && !own.leaving && !own.handle.is_empty() {
            plan.attached.push(id.clone());
        }
        let used = view.there && view.in_use.contains(&id);
        if ours && !own.leaving && !view.needs.contains_key(&own.volume) && !used {
            plan.detach.push(own.name.clone());
        }
    }
    plan.attached.sort();
    plan
}

/// How nodes name CSI volumes.
const PREFIX: &str = "kubernetes.io/csi/";

#[derive(Clone)]
struct Caches {
    pods: Informer<Pod>,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    drivers: Informer<CSIDriver>,
    attachments: Informer<VolumeAttachment>,
    nodes: Informer<Node>,
    /// What pods were told last, by node.
    told: Arc<Mutex<HashMap<String, Vec<Trouble>>>>,
}

fn node_of(pod: &Pod) -> Option<String> {
    pod.spec.as_ref()?.node_name.clone().filter(|name| !name.is_empty())
}

fn csi_of(volume: &PersistentVolume) -> Option<(&str, &str)> {
    let source = volume.spec.as_ref()?.csi.as_ref()?;
    Some((&source.driver, &source.volume_handle))
}

impl Caches {
    fn follow(&self, queue: &Queue) {
        let own = queue.clone();
        self.pods.on_change(move |old, new| {
            let concerned = [old, new].into_iter().flatten().filter(|pod| !claims_of(pod).is_empty());
            concerned.filter_map(node_of).for_each(|node| own.add(Key::new("", node)));
        });
        // A claim that was bound, or a volume that somebody else may have now.
        let (own, pods) = (queue.clone(), self.pods.clone());
        let users = move |namespace: &str, claim: &str| {
            let uses = |pod: &&Arc<Pod>| claims_of(pod).iter().any(|name| name == claim);
            let nodes = pods.list_in(namespace).iter().filter(uses).filter_map(|pod| node_of(pod)).collect::<Vec<_>>();
            nodes.into_iter().for_each(|node| own.add(Key::new("", node)));
        };
        let (changed, volumes) = (users.clone(), self.volumes.clone());
        self.claims.on_change(move |old, new| {
            let bound = |claim: Option<&PersistentVolumeClaim>| claim.map_or("", phase_of_claim).to_owned();
            if bound(old) != bound(new)
                && let Some(claim) = new
                && volumes.get("", volume_of(claim)).is_some_and(|volume| csi_of(&volume).is_some())
            {
                changed(&claim.namespace().unwrap_or_default(), &claim.name_any());
            }
        });
        let (own, volumes) = (queue.clone(), self.volumes.clone());
        self.attachments.on_change(move |old, new| {
            let Some(attachment) = new.or(old) else { return };
            own.add(Key::new("", &*attachment.spec.node_name));
            let volume = attachment.spec.source.persistent_volume_name.as_deref().unwrap_or_default();
            if new.is_none()
                && let Some(volume) = volumes.get("", volume)
                && let Some(claim) = claim_of(&volume)
            {
                let part = |text: &Option<String>| text.clone().unwrap_or_default();
                users(&part(&claim.namespace), &part(&claim.name));
            }
        });
        let own = queue.clone();
        self.nodes.on_change(move |old, new| {
            let said = |node: Option<&Node>| {
                let status = node.and_then(|node| node.status.as_ref());
                status.map(|status| (status.volumes_in_use.clone(), status.volumes_attached.clone()))
            };
            if said(old) != said(new) {
                new.or(old).into_iter().for_each(|node| own.add(Key::of(node)));
            }
        });
    }

    fn view(&self, node: &str) -> View {
        let mut view = View { node: node.to_owned(), ..View::default() };
        if let Some(node) = self.nodes.get("", node) {
            view.there = true;
            let status = node.status.clone().unwrap_or_default();
            let in_use = status.volumes_in_use.unwrap_or_default();
            view.in_use = in_use.iter().filter_map(|name| name.strip_prefix(PREFIX)).map(str::to_owned).collect();
        }
        for pod in self.pods.list().iter().filter(|pod| node_of(pod).as_deref() == Some(node) && !has_ended(pod)) {
            for claim in claims_of(pod) {
                let namespace = pod.namespace().unwrap_or_default();
                let claim = self.claims.get(&namespace, &claim);
                let Some(volume) = claim.and_then(|claim| self.volumes.get("", volume_of(&claim))) else { continue };
                let Some((driver, handle)) = csi_of(&volume) else { continue };
                let known = self.drivers.get("", driver);
                if known.is_some_and(|known| known.spec.attach_required == Some(false)) {
                    continue;
                }
                let modes = volume.spec.as_ref().and_then(|spec| spec.access_modes.clone()).unwrap_or_default();
                let need = view.needs.entry(volume.name_any()).or_insert_with(|| Need {
                    driver: driver.to_owned(),
                    handle: handle.to_owned(),
                    exclusive: !modes.iter().any(|mode| mode.ends_with("Many")),
                    pods: Vec::new(),
                });
                need.pods.push(format!("{namespace}/{}", pod.name_any()));
            }
        }
        let attachments = self.attachments.list();
        view.attachments = attachments
            .iter()
            .filter_map(|attachment| {
                let volume = attachment.spec.source.persistent_volume_name.clone()?;
                let of = self.volumes.get("", &volume);
                let handle = of.as_deref().and_then(csi_of).map(|(_, handle)| handle.to_owned());
                let status = attachment.status.clone().unwrap_or_default();
                Some(Attachment {
                    name: attachment.name_any(),
                    node: attachment.spec.node_name.clone(),
                    volume,
                    driver: attachment.spec.attacher.clone(),
                    handle: handle.unwrap_or_default(),
                    attached: status.attached,
                    leaving: attachment.metadata.deletion_timestamp.is_some(),
                    error: status.attach_error.and_then(|error| error.message),
                })
            })
            .collect();
        view
    }

    async fn sync(&self, cx: &Context, key: &Key, writes: &mut Writes) -> Result<(), Error> {
        let plan = plan(&self.view(&key.name));
        let api: Api<VolumeAttachment> = Api::all(cx.client.clone());
        for (name, driver, volume) in plan.attach {
            let attachment = json!({
                "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": name},
                "spec": {"attacher": driver, "nodeName": key.name, "source": {"persistentVolumeName": volume}},
            });
            let attachment: VolumeAttachment = serde_json::from_value(attachment)?;
            let made = or_there(api.create(&PostParams::default(), &attachment).await)?;
            made.iter().for_each(|made| writes.note(&self.attachments, made));
        }
        for name in plan.detach {
            if let Some(either) = or_gone(api.delete(&name, &DeleteParams::default()).await)? {
                either.map_left(|attachment| writes.note(&self.attachments, &attachment));
            }
        }
        self.tell(cx, &key.name, plan.trouble);
        let Some(node) = self.nodes.get("", &key.name) else { return Ok(()) };
        let status = node.status.as_ref();
        let said = status.and_then(|status| status.volumes_attached.clone()).unwrap_or_default();
        let (foreign, own): (Vec<AttachedVolume>, Vec<AttachedVolume>) =
            said.into_iter().partition(|volume| !volume.name.starts_with(PREFIX));
        let wanted: Vec<AttachedVolume> = plan
            .attached
            .iter()
            .map(|id| AttachedVolume { name: format!("{PREFIX}{id}"), device_path: String::new() })
            .collect();
        if own != wanted {
            let all: Vec<AttachedVolume> = foreign.into_iter().chain(wanted).collect();
            let patch = Patch::Merge(json!({"status": {"volumesAttached": all}}));
            let nodes: Api<Node> = Api::all(cx.client.clone());
            let written = or_gone(nodes.patch_status(&key.name, &PatchParams::default(), &patch).await)?;
            written.iter().for_each(|written| writes.note(&self.nodes, written));
        }
        Ok(())
    }

    /// Tells pods what hinders them, once.
    fn tell(&self, cx: &Context, node: &str, trouble: Vec<Trouble>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.remove(node).unwrap_or_default();
        for (pod, message) in trouble.iter().filter(|news| !before.contains(news)) {
            let Some((namespace, name)) = pod.split_once('/') else { continue };
            if let Some(pod) = self.pods.get(namespace, name) {
                cx.recorder.warning(&cx.config.clock, reference(&*pod), "FailedAttachVolume", message);
            }
        }
        if !trouble.is_empty() {
            told.insert(node.to_owned(), trouble);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(exclusive: bool) -> BTreeMap<String, Need> {
        let need = Need { driver: "d".to_owned(), handle: "h".to_owned(), exclusive, pods: vec!["a/p".to_owned()] };
        BTreeMap::from([("pv".to_owned(), need)])
    }

    fn attachment(node: &str, attached: bool) -> Attachment {
        Attachment {
            name: name_of("h", "d", node),
            node: node.to_owned(),
            volume: "pv".to_owned(),
            driver: "d".to_owned(),
            handle: "h".to_owned(),
            attached,
            ..Attachment::default()
        }
    }

    fn show(needs: BTreeMap<String, Need>, attachments: Vec<Attachment>, in_use: &[&str], there: bool) -> String {
        let in_use = in_use.iter().map(|&id| id.to_owned()).collect();
        let plan = plan(&View { node: "n1".to_owned(), needs, attachments, in_use, there });
        let trouble: Vec<String> = plan.trouble.into_iter().map(|(pod, why)| format!("{pod}: {why}")).collect();
        format!("+{} -{} has {} {}", plan.attach.len(), plan.detach.len(), plan.attached.join(","), trouble.join("; "))
    }

    #[test]
    fn volumes_are_attached_where_they_are_needed_and_not_twice() {
        let none = BTreeMap::new;
        let failed = Attachment { error: Some("no room".to_owned()), ..attachment("n1", false) };
        let foreign = Attachment { name: "by-hand".to_owned(), ..attachment("n1", true) };
        let leaving = Attachment { leaving: true, ..attachment("n1", true) };
        let lines = [
            show(need(true), vec![], &[], true),
            show(need(true), vec![], &[], false),
            show(need(true), vec![attachment("n1", false)], &[], true),
            show(need(true), vec![attachment("n1", true)], &[], true),
            show(need(true), vec![attachment("n2", true)], &[], true),
            show(need(false), vec![attachment("n2", true)], &[], true),
            show(need(true), vec![failed], &[], true),
            show(none(), vec![attachment("n1", true)], &[], true),
            show(none(), vec![attachment("n1", true)], &["d^h"], true),
            show(none(), vec![attachment("n1", true)], &["d^h"], false),
            show(none(), vec![attachment("n2", true)], &[], true),
            show(none(), vec![foreign], &[], true),
            show(none(), vec![leaving], &[], true),
        ];
        expect_test::expect![[r#"
            +1 -0 has  
            +0 -0 has  
            +0 -0 has  
            +0 -0 has d^h 
            +0 -0 has  a/p: Multi-Attach error for volume "pv" Volume is already exclusively attached to one node and can't be attached to another
            +1 -0 has  
            +0 -0 has  a/p: AttachVolume.Attach failed for volume "pv" : no room
            +0 -1 has d^h 
            +0 -0 has d^h 
            +0 -1 has d^h 
            +0 -0 has  
            +0 -0 has d^h 
            +0 -0 has  "#]]
        .assert_eq(&lines.join("\n"));
    }
}
