//! What the code asks for, as tables.

use super::{NAME, Need, Scope};

const fn need(
    scope: Scope,
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    why: &'static str,
) -> Need {
    Need { scope, group, resource, verbs, names: &[], why }
}

/// Everything that `run` asks for.
pub const NEEDS: &[Need] = &[
    need(Scope::Served, "", "services", &["get", "list", "watch", "patch"], "served; they get a finalizer"),
    need(Scope::Served, "", "services/status", &["patch"], "their addresses are published"),
    need(
        Scope::Served,
        "",
        "configmaps",
        &["get", "list", "watch", "create", "patch", "delete"],
        "each gateway's file",
    ),
    need(
        Scope::Served,
        "apps",
        "deployments",
        &["get", "list", "watch", "create", "patch", "delete"],
        "each Service's gateway",
    ),
    need(
        Scope::Served,
        "",
        "pods",
        &["get", "list", "watch", "patch"],
        "gateway pods: are they ready; their annotations make the kubelet refresh the file",
    ),
    need(Scope::Served, "", "events", &["list"], "Kube-OVN's refusals on gateway pods"),
    need(Scope::Served, "events.k8s.io", "events", &["create"], "what users are told"),
    need(
        Scope::Cluster,
        "k8s.cni.cncf.io",
        "network-attachment-definitions",
        &["list", "watch"],
        "the networks that Services name",
    ),
    need(Scope::Cluster, "kubeovn.io", "subnets", &["list", "watch"], "the addresses that can be given"),
    need(Scope::Cluster, "kubeovn.io", "subnets/status", &["patch"], "how many of them are in use"),
    need(
        Scope::Cluster,
        "kubeovn.io",
        "vips",
        &["get", "list", "create", "delete"],
        "addresses that Kube-OVN gives without a pod",
    ),
    need(
        Scope::Cluster,
        "sluice.io",
        "ipreservations",
        &["get", "list", "watch", "create", "delete"],
        "addresses that Sluice gives",
    ),
    need(Scope::Cluster, "", "pods", &["list"], "does Kube-OVN run with its own load balancer on"),
    Need {
        scope: Scope::Cluster,
        group: "apps",
        resource: "deployments",
        verbs: &["list"],
        names: &["kube-ovn-controller"],
        why: "is it about to",
    },
    need(Scope::Home, "coordination.k8s.io", "leases", &["get", "create", "update"], "leader election"),
];

/// Everything that `release` asks for. In [`Scope::Home`], the name is that of the Deployment and of the Lease.
pub const RELEASE_NEEDS: &[Need] = &[
    need(Scope::Served, "", "services", &["get", "list", "patch"], "let go of; they lose a finalizer"),
    need(Scope::Served, "", "services/status", &["patch"], "their addresses are withdrawn"),
    need(Scope::Served, "", "configmaps", &["get", "delete"], "each gateway's file"),
    need(Scope::Served, "apps", "deployments", &["get", "delete"], "each Service's gateway"),
    need(Scope::Served, "", "pods", &["list"], "gateway pods: are they gone"),
    need(Scope::Served, "events.k8s.io", "events", &["create"], "what users are told"),
    need(Scope::Cluster, "sluice.io", "ipreservations", &["list", "delete"], "addresses that Sluice gave"),
    need(Scope::Cluster, "kubeovn.io", "vips", &["get", "list", "delete"], "addresses that Kube-OVN gave"),
    Need {
        names: &[NAME],
        ..need(Scope::Home, "apps", "deployments/scale", &["patch"], "the controller is stopped")
    },
    need(Scope::Home, "", "pods", &["list"], "pods of the controller: are they gone"),
    need(Scope::Home, "coordination.k8s.io", "leases", &["create"], "leader election"),
    Need {
        names: &[NAME],
        ..need(Scope::Home, "coordination.k8s.io", "leases", &["get", "update", "delete"], "the same")
    },
];
