//! Publishes the cluster's certificate in every namespace (`kube-root-ca.crt`), where pods find it.

use std::collections::BTreeMap;

use corten_api::api::core::v1::{ConfigMap, Namespace};
use corten_api::meta::ObjectMeta;
use corten_client::{Informer, Key, Next};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::context::{Context, Error, or_gone, or_there};

const MAP: &str = "kube-root-ca.crt";
const FILE: &str = "ca.crt";
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "The certificate authority of this cluster's API server, for clients within the cluster.",
);

pub(crate) async fn run(cx: Context) {
    let namespaces = cx.informers.of::<Namespace>();
    let maps = cx.informers.filtered::<ConfigMap>(&format!("metadata.name={MAP}"));
    let queue = cx.queue.clone();
    namespaces.on_change(move |_, new| new.into_iter().for_each(|own| queue.add(Key::new("", own.name_any()))));
    let queue = cx.queue.clone();
    maps.on_change(move |old, _| {
        old.into_iter().for_each(|map| queue.add(Key::new("", map.namespace().unwrap_or_default())));
    });
    tokio::join!(namespaces.synced(), maps.synced());
    cx.work(4, move |cx, key| sync(cx, namespaces.clone(), maps.clone(), key)).await;
}

async fn sync(
    cx: Context,
    namespaces: Informer<Namespace>,
    maps: Informer<ConfigMap>,
    key: Key,
) -> Result<Next, Error> {
    let alive = namespaces.by_key(&key).is_some_and(|own| own.metadata.deletion_timestamp.is_none());
    if !alive {
        return Ok(Next::Wait);
    }
    let data = BTreeMap::from([(FILE.to_owned(), cx.config.root_ca_pem.clone())]);
    let api: Api<ConfigMap> = Api::namespaced(cx.client.clone(), &key.name);
    match maps.get(&key.name, MAP) {
        None => {
            let metadata = ObjectMeta {
                name: Some(MAP.to_owned()),
                annotations: Some(BTreeMap::from([(DESCRIPTION.0.to_owned(), DESCRIPTION.1.to_owned())])),
                ..ObjectMeta::default()
            };
            let map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
            or_there(api.create(&PostParams::default(), &map).await)?;
        }
        Some(map) if map.data.as_ref() != Some(&data) => {
            // Whatever else was put there goes.
            let known = map.data.iter().flat_map(BTreeMap::keys).filter(|own| *own != FILE);
            let mut patch = json!({"data": data});
            known.for_each(|own| patch["data"][own] = serde_json::Value::Null);
            or_gone(api.patch(MAP, &PatchParams::default(), &Patch::Merge(patch)).await)?;
        }
        Some(_) => {}
    }
    Ok(Next::Wait)
}
