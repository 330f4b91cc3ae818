//! The node's network as its users see it: the shell around everything else.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use corten_api::api::core::v1::Service;
use corten_api::api::discovery::v1::EndpointSlice;
use corten_client::Informers;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::addresses::Addresses;
use crate::directory::Directory;
use crate::netlink::Socket;
use crate::services::{self, Node, Ranges, Services};
use crate::{Config, Error, Range, dns, host, links};

/// How long a pod may wait for its node's address range.
const RANGE_PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait before rules that the kernel refused are tried again.
const RULES_RETRY: Duration = Duration::from_secs(1);

/// How long to wait before the DNS address is bound again.
const DNS_RETRY: Duration = Duration::from_secs(1);

/// A node's network.
pub struct Network {
    config: Config,
    /// The node's address, if it is an address of this namespace: what the node's own traffic to pods comes from.
    source: Option<Ipv4Addr>,
    addresses: Mutex<Addresses>,
    range: watch::Sender<Option<Range>>,
}

impl Network {
    /// Sets up what does not depend on pods: forwarding, the DNS address, the rules' table.
    pub async fn open(config: Config) -> Result<Arc<Self>, Error> {
        blocking("set up the node's network", move || {
            let source = host::open(&config)?;
            let failed = |error| Error::cannot("set up the service rules", error);
            services::open(&ranges(&config)).map_err(failed)?;
            let mut addresses = Addresses::default();
            let pods = Socket::route().and_then(|socket| links::pods(&socket));
            for (pod, address) in pods.map_err(|error| Error::cannot("list the pods' links", error))? {
                addresses.keep(&pod, address);
            }
            let (addresses, range) = (Mutex::new(addresses), watch::Sender::new(None));
            Ok(Arc::new(Self { config, source, addresses, range }))
        })
        .await
    }

    /// Gives a pod's network namespace an address and a link. Idempotent by UID, also across processes.
    pub async fn attach(&self, pod_uid: &str, netns: &Path) -> Result<Vec<IpAddr>, Error> {
        let address = self.address_for(pod_uid).await?;
        let (pod, netns, source) = (pod_uid.to_owned(), netns.to_owned(), self.source);
        // The address stays the pod's if this fails: a half-made link may have it, and detach or retain frees it.
        blocking("connect a pod", move || links::attach(&pod, address, &netns, source)).await?;
        Ok(vec![IpAddr::V4(address)])
    }

    async fn address_for(&self, pod: &str) -> Result<Ipv4Addr, Error> {
        let failed = |why: &str| Error::cannot(format_args!("give pod {pod} an address"), why);
        if let Some(address) = self.addresses().get(pod) {
            return Ok(address);
        }
        let mut range = self.range.subscribe();
        match tokio::time::timeout(RANGE_PATIENCE, range.wait_for(Option::is_some)).await {
            Ok(_) => self.addresses().take(pod).ok_or_else(|| failed("the node's pod range is used up")),
            Err(_) => Err(failed("the node has no pod range yet")),
        }
    }

    /// Takes them away. Idempotent.
    pub async fn detach(&self, pod_uid: &str) -> Result<(), Error> {
        let pod = pod_uid.to_owned();
        blocking("disconnect a pod", move || {
            links::detach(&pod).map_err(|error| Error::cannot(format_args!("disconnect pod {pod}"), error))
        })
        .await?;
        self.addresses().release(pod_uid);
        Ok(())
    }

    /// Removes the links of all pods but these.
    pub async fn retain(&self, pod_uids: &[String]) -> Result<(), Error> {
        let keep: HashSet<String> = pod_uids.iter().cloned().collect();
        let remove = move || {
            let socket = Socket::route()?;
            let mut surplus = links::pod_links(&socket)?;
            surplus.retain(|link| !keep.contains(&link.alias));
            links::remove(&socket, &surplus)?;
            io::Result::Ok(surplus)
        };
        let removed = blocking("disconnect pods", move || {
            remove().map_err(|error| Error::cannot("disconnect the pods that are gone", error))
        })
        .await?;
        for link in removed {
            self.addresses().release(&link.alias);
        }
        Ok(())
    }

    /// Tells the range from which this node's pods get their addresses.
    pub async fn set_pod_range(&self, range: Range) -> Result<(), Error> {
        if *self.range.borrow() == Some(range) {
            return Ok(());
        }
        self.addresses().set_range(range);
        self.range.send_replace(Some(range));
        blocking("set the pod range", move || {
            let failed = |error| Error::cannot("refuse what no pod of this node receives", error);
            host::refuse_unknown_pods(range).map_err(failed)
        })
        .await
    }

    /// Keeps service rules and DNS true to the API until `cancel` fires. Rules stay when it returns.
    pub async fn run(&self, informers: &Informers, cancel: CancellationToken) -> Result<(), Error> {
        let directory = Arc::new(RwLock::new(Directory::default()));
        let changed = Arc::new(Notify::new());
        let (services, slices) = (informers.of::<Service>(), informers.of::<EndpointSlice>());
        let (of_services, of_slices) =
            ((Arc::clone(&directory), Arc::clone(&changed)), (Arc::clone(&directory), Arc::clone(&changed)));
        services.on_change(move |before, after| {
            of_services.0.write().unwrap_or_else(PoisonError::into_inner).set_service(before, after);
            of_services.1.notify_one();
        });
        slices.on_change(move |before, after| {
            of_slices.0.write().unwrap_or_else(PoisonError::into_inner).set_slice(before, after);
            of_slices.1.notify_one();
        });
        let complete = Arc::new(AtomicBool::new(false));
        let rules = async {
            services.synced().await;
            slices.synced().await;
            complete.store(true, Ordering::Release);
            self.keep_rules(&directory, &changed).await;
        };
        tokio::select! {
            () = cancel.cancelled() => Ok(()),
            () = rules => Ok(()),
            () = self.keep_names(&directory, &complete) => Ok(()),
        }
    }

    /// Answers for names. Services work without them, so a DNS address that is taken is no reason to give up.
    async fn keep_names(&self, directory: &Arc<RwLock<Directory>>, complete: &Arc<AtomicBool>) {
        loop {
            let server = dns::Server::open(&self.config, Arc::clone(directory), Arc::clone(complete)).await;
            let result = match server {
                Ok(server) => server.run().await,
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                tracing::error!(%error, "the cluster has no DNS on this node; trying again");
            }
            tokio::time::sleep(DNS_RETRY).await;
        }
    }

    /// Programs the rules at once and then after each change. Changes that come meanwhile are taken together.
    async fn keep_rules(&self, directory: &Arc<RwLock<Directory>>, changed: &Notify) {
        let node = Node { name: self.config.node_name.clone(), dns_address: self.config.dns_address };
        let services = Arc::new(Mutex::new(Services::new(node, ranges(&self.config))));
        loop {
            let (services, directory) = (Arc::clone(&services), Arc::clone(directory));
            let programmed = blocking("program the service rules", move || {
                let mut services = services.lock().unwrap_or_else(PoisonError::into_inner);
                let tables = services.plan(&directory.read().unwrap_or_else(PoisonError::into_inner));
                services.program(tables).map_err(|error| Error::cannot("program the service rules", error))
            });
            if let Err(error) = programmed.await {
                tracing::error!(%error, "services may be out of reach; trying again");
                tokio::time::sleep(RULES_RETRY).await;
                continue;
            }
            changed.notified().await;
        }
    }

    fn addresses(&self) -> MutexGuard<'_, Addresses> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ranges(config: &Config) -> Ranges {
    Ranges { cluster: config.cluster_range, services: config.service_range, dns_address: config.dns_address }
}

/// Runs calls to the kernel where they hold up nobody.
async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Error::cannot(what, error)))
}

/// Removes every link, route and rule that this crate made in this network namespace. Idempotent.
pub async fn purge() -> Result<(), Error> {
    blocking("remove the network", || {
        host::purge().map_err(|error| Error::cannot("remove the pods' links", error))?;
        services::purge().map_err(|error| Error::cannot("remove the service rules", error))
    })
    .await
}
