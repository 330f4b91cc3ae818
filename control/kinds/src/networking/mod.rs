//! networking.k8s.io: what leads traffic into the cluster and who may talk to whom.

mod addresses;
mod ingress_classes;
mod ingresses;
mod network_policies;
mod service_cidrs;

pub(crate) use addresses::IpAddresses;
pub(crate) use ingress_classes::IngressClasses;
pub(crate) use ingresses::Ingresses;
pub(crate) use network_policies::NetworkPolicies;
pub(crate) use service_cidrs::ServiceCidrs;
