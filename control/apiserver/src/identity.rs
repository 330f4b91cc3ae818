//! Who asks.

use std::collections::BTreeMap;

use corten_kinds::Requester;

/// An authenticated user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User name, such as `kubernetes-admin`.
    pub name: String,
    /// Groups, such as `system:masters`.
    pub groups: Vec<String>,
}

impl Identity {
    /// A user in `system:authenticated` and these groups.
    #[must_use]
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        let groups = groups.iter().chain(&["system:authenticated"]).map(|&group| group.to_owned()).collect();
        Self { name: name.into(), groups }
    }

    /// Somebody without credentials.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { name: "system:anonymous".to_owned(), groups: vec!["system:unauthenticated".to_owned()] }
    }

    /// The administrator.
    #[must_use]
    pub fn admin() -> Self {
        Self::new("kubernetes-admin", &["system:masters"])
    }

    /// The controllers.
    #[must_use]
    pub fn controller_manager() -> Self {
        Self::new("system:kube-controller-manager", &[])
    }

    /// The scheduler.
    #[must_use]
    pub fn scheduler() -> Self {
        Self::new("system:kube-scheduler", &[])
    }

    /// The service rules and the cluster's DNS of a node.
    #[must_use]
    pub fn proxy() -> Self {
        Self::new("system:kube-proxy", &[])
    }

    /// The agent of a node.
    #[must_use]
    pub fn node(name: &str) -> Self {
        Self::new(format!("system:node:{name}"), &["system:nodes"])
    }

    /// A service account.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")];
        Self::new(format!("system:serviceaccount:{namespace}:{name}"), &groups)
    }

    /// As kinds that record who wrote an object see the user.
    pub(crate) fn requester(&self) -> Requester<'_> {
        static NOTHING: BTreeMap<String, Vec<String>> = BTreeMap::new();
        Requester { name: &self.name, uid: "", groups: &self.groups, extra: &NOTHING }
    }

    /// Whether the user is in the group.
    #[must_use]
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}
