//! Gives every namespace its `default` service account.

use corten_api::api::core::v1::{Namespace, ServiceAccount};
use corten_api::meta::ObjectMeta;
use corten_client::{Informer, Key, Next};
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use crate::context::{Context, Error, or_there};

const ACCOUNT: &str = "default";

pub(crate) async fn run(cx: Context) {
    let namespaces = cx.informers.of::<Namespace>();
    let accounts = cx.informers.filtered::<ServiceAccount>(&format!("metadata.name={ACCOUNT}"));
    let queue = cx.queue.clone();
    namespaces.on_change(move |_, new| new.into_iter().for_each(|own| queue.add(Key::new("", own.name_any()))));
    let queue = cx.queue.clone();
    accounts.on_change(move |old, new| {
        if let (Some(gone), None) = (old, new) {
            queue.add(Key::new("", gone.namespace().unwrap_or_default()));
        }
    });
    tokio::join!(namespaces.synced(), accounts.synced());
    cx.work(4, move |cx, key| sync(cx, namespaces.clone(), accounts.clone(), key)).await;
}

async fn sync(
    cx: Context,
    namespaces: Informer<Namespace>,
    accounts: Informer<ServiceAccount>,
    key: Key,
) -> Result<Next, Error> {
    let alive = namespaces.by_key(&key).is_some_and(|own| own.metadata.deletion_timestamp.is_none());
    if alive && accounts.get(&key.name, ACCOUNT).is_none() {
        let metadata = ObjectMeta { name: Some(ACCOUNT.to_owned()), ..ObjectMeta::default() };
        let account = ServiceAccount { metadata, ..ServiceAccount::default() };
        let api: Api<ServiceAccount> = Api::namespaced(cx.client.clone(), &key.name);
        or_there(api.create(&PostParams::default(), &account).await)?;
    }
    Ok(Next::Wait)
}
