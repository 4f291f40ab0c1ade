//! Sluice as its users run it: on real kubelets, with containerd, Multus and kube-proxy, from its manifests and images.
//!
//! One cluster, with one node, serves all cases; each has a Kubernetes namespace and a piece of the external network of its own, and they run side by
//! side. What is asked of the API server goes through `kubectl`, as a user asks. Needs root, and what `cargo xtask test cluster` builds.
//!
//! ```text
//! site         the cluster that the cases share
//! case         what each case starts from: namespace, network, backends, the client
//! seed         the example of Kube-OVN's documentation, step by step
//! lifecycle    address given at once or on request, pod replaced, Service deleted: what Kube-OVN's own tests ask for
//! ports        which packets arrive where
//! edits        what changes while clients are there
//! addresses    who gets which address, and what the network outside does
//! faults       what is lost while something fails
//! kube_ovn     addresses by way of the pod's network
//! drop_in      pods as stock Kube-OVN makes them, with the gateway's image
//! chart        the Helm chart, on a cluster of its own
//! security     namespaces that enforce Pod Security
//! crowd        fifty at once
//! leftovers    what stays of a cluster whose starter is killed: nothing
//! quickstart   the commands of docs/quickstart.md
//! ```

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

mod addresses;
mod case;
mod chart;
mod crowd;
mod drop_in;
mod edits;
mod faults;
mod kube_ovn;
mod leftovers;
mod lifecycle;
mod ports;
mod quickstart;
mod security;
mod seed;
mod site;
mod stream;
