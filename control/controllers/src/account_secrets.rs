//! Deletes the secrets that hold tokens of service accounts that are gone. The API server fills them.

use corten_api::api::core::v1::{Secret, ServiceAccount};
use corten_client::{Informer, Key, Next};
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt};

use crate::context::{Context, Error, or_gone};

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";

pub(crate) async fn run(cx: Context) {
    let accounts = cx.informers.of::<ServiceAccount>();
    let secrets = cx.informers.filtered::<Secret>(&format!("type={TYPE}"));
    let (queue, own) = (cx.queue.clone(), secrets.clone());
    accounts.on_change(move |old, new| {
        if let (Some(gone), None) = (old, new) {
            own.list_in(&gone.namespace().unwrap_or_default()).iter().for_each(|secret| queue.add(Key::of(&**secret)));
        }
    });
    let queue = cx.queue.clone();
    secrets.on_change(move |_, new| new.into_iter().for_each(|secret| queue.add(Key::of(secret))));
    tokio::join!(accounts.synced(), secrets.synced());
    cx.work(1, move |cx, key| sync(cx, accounts.clone(), secrets.clone(), key)).await;
}

/// Whether a secret is of this account, and not of an earlier one of the same name.
fn is_of(secret: &Secret, account: &ServiceAccount) -> bool {
    secret.annotations().get(UID).is_none_or(|uid| uid.is_empty() || account.uid().as_ref() == Some(uid))
}

async fn sync(
    cx: Context,
    accounts: Informer<ServiceAccount>,
    secrets: Informer<Secret>,
    key: Key,
) -> Result<Next, Error> {
    let Some(secret) = secrets.by_key(&key) else { return Ok(Next::Wait) };
    let Some(name) = secret.annotations().get(ACCOUNT) else { return Ok(Next::Wait) };
    if accounts.get(&key.namespace, name).is_some_and(|account| is_of(&secret, &account)) {
        return Ok(Next::Wait);
    }
    // The cache may not have a new account yet, and what is deleted is gone.
    let api: Api<ServiceAccount> = Api::namespaced(cx.client.clone(), &key.namespace);
    if api.get_opt(name).await?.is_some_and(|account| is_of(&secret, &account)) {
        return Ok(Next::Wait);
    }
    let api: Api<Secret> = Api::namespaced(cx.client.clone(), &key.namespace);
    let preconditions = Some(Preconditions { uid: secret.uid(), resource_version: None });
    let params = DeleteParams { preconditions, ..DeleteParams::default() };
    or_gone(api.delete(&key.name, &params).await)?;
    Ok(Next::Wait)
}
