//! A real Kubernetes cluster on one Linux machine, without a container registry: what `cargo xtask cluster` gives, and what the `cluster` rung of tests
//! runs on.
//!
//! Each machine of the cluster is a process with namespaces of its own, for processes, mounts and network. So nothing of it is seen outside but a
//! folder and control groups; a machine is killed as by a power cut by killing one process; and addresses are the same in every cluster.
//!
//! ```text
//! cluster        start, find, stop; what happens to nodes
//! kubectl        asking the API server       folder       by which a cluster is found, and removed
//! machine        one machine: programs in it, its end      netns     commands in its network, or a pod's
//! network        cables and bridges        addresses      who has which address
//! control_plane  etcd, API server, ...     node           containerd, kubelet, kube-proxy, Multus
//! images         what the pods run that are not Sluice's
//! credentials    keys, tokens, kubeconfigs
//! programs       where the programs are
//! leftovers      removing folder and control groups
//! ```

pub mod addresses;
mod cgroup;
pub mod cluster;
pub mod control_plane;
pub mod credentials;
mod folder;
pub mod images;
mod kubectl;
pub mod leftovers;
pub mod machine;
pub mod netns;
pub mod network;
pub mod node;
pub mod process;
pub mod programs;
pub mod spec;

pub use cluster::{Cluster, Options};
pub use machine::Machine;
