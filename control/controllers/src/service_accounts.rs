//! Gives every namespace its `default` service account and the cluster's certificate (`kube-root-ca.crt`).

use std::collections::BTreeMap;

use corten_api::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use corten_api::meta::ObjectMeta;
use corten_client::{Informer, Key, Next};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::context::{Context, Error, or_there};

const ACCOUNT: &str = "default";
const MAP: &str = "kube-root-ca.crt";
const FILE: &str = "ca.crt";

pub(crate) async fn run(cx: Context) {
    let namespaces = cx.informers.of::<Namespace>();
    let accounts = cx.informers.filtered::<ServiceAccount>(&format!("metadata.name={ACCOUNT}"));
    let maps = cx.informers.filtered::<ConfigMap>(&format!("metadata.name={MAP}"));
    let queue = cx.queue.clone();
    namespaces.on_change(move |_, new| new.into_iter().for_each(|own| queue.add(Key::new("", own.name_any()))));
    let queue = cx.queue.clone();
    let namespace_of = |namespace: Option<String>| Key::new("", namespace.unwrap_or_default());
    accounts.on_change(move |old, new| {
        if let (Some(gone), None) = (old, new) {
            queue.add(namespace_of(gone.namespace()));
        }
    });
    let queue = cx.queue.clone();
    maps.on_change(move |old, new| {
        if let (Some(changed), _) = (old, new) {
            queue.add(namespace_of(changed.namespace()));
        }
    });
    tokio::join!(namespaces.synced(), accounts.synced(), maps.synced());
    cx.work(4, move |cx, key| sync(cx, namespaces.clone(), accounts.clone(), maps.clone(), key)).await;
}

async fn sync(
    cx: Context,
    namespaces: Informer<Namespace>,
    accounts: Informer<ServiceAccount>,
    maps: Informer<ConfigMap>,
    key: Key,
) -> Result<Next, Error> {
    let namespace = &key.name;
    let alive = namespaces.by_key(&key).is_some_and(|own| own.metadata.deletion_timestamp.is_none());
    if !alive {
        return Ok(Next::Wait);
    }
    let metadata = |name: &str| ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.clone()),
        ..ObjectMeta::default()
    };
    if accounts.get(namespace, ACCOUNT).is_none() {
        let account = ServiceAccount { metadata: metadata(ACCOUNT), ..ServiceAccount::default() };
        let api: Api<ServiceAccount> = Api::namespaced(cx.client.clone(), namespace);
        or_there(api.create(&PostParams::default(), &account).await)?;
    }
    let data = BTreeMap::from([(FILE.to_owned(), cx.config.root_ca_pem.clone())]);
    let api: Api<ConfigMap> = Api::namespaced(cx.client.clone(), namespace);
    match maps.get(namespace, MAP) {
        None => {
            let map = ConfigMap { metadata: metadata(MAP), data: Some(data), ..ConfigMap::default() };
            or_there(api.create(&PostParams::default(), &map).await)?;
        }
        Some(map) if map.data.as_ref() != Some(&data) => {
            api.patch(MAP, &PatchParams::default(), &Patch::Merge(json!({"data": data}))).await?;
        }
        Some(_) => {}
    }
    Ok(Next::Wait)
}
