//! Which address a Service gets, for how long, and what is told where it gets none.

mod kube_ovn;
mod orphans;
mod own;
mod subnets;
