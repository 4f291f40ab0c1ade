//! Subnets and Vips.

use std::net::IpAddr;

use anyhow::Result;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use sluice_controller::api::{Subnet, Vip};

use super::Cluster;
use super::pool::Pool;

/// Marks the Subnets that Kube-OVN manages.
const FINALIZER: &str = "kubeovn.io/kube-ovn-controller";

/// The addresses that a Vip has been given.
pub fn addresses(vip: &Vip) -> Vec<IpAddr> {
    let status = vip.status.iter().flat_map(|status| [&status.v4ip, &status.v6ip]);
    status.filter_map(|address| address.parse().ok()).collect()
}

impl Cluster {
    /// Sets the finalizer of a Subnet; of one that is being deleted it is taken away as soon as nobody has an address.
    pub(super) async fn mark(&self, subnet: &Subnet, pool: &Pool) -> Result<()> {
        let is_marked = subnet.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
        let marks = subnet.metadata.deletion_timestamp.is_none() || !pool.taken.is_empty();
        if is_marked == marks {
            return Ok(());
        }
        let mut finalizers: Vec<&str> = subnet.finalizers().iter().map(String::as_str).collect();
        finalizers.retain(|finalizer| *finalizer != FINALIZER);
        if marks {
            finalizers.push(FINALIZER);
        }
        let patch = json!({ "metadata": {
            "finalizers": finalizers, "resourceVersion": subnet.metadata.resource_version,
        } });
        self.subnet_api().patch(&subnet.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Keeps the numbers of a Subnet's status true, as far as anybody looks at them.
    pub(super) async fn count(&self, subnet: &Subnet, pool: &Pool) -> Result<()> {
        let (v4, v6) = (pool.using(true) as f64, pool.using(false) as f64);
        let status = subnet.status.clone().unwrap_or_default();
        if (status.v4_using_ips, status.v6_using_ips) == (v4, v6) {
            return Ok(());
        }
        let patch = json!({ "status": { "v4usingIPs": v4, "v6usingIPs": v6 } });
        self.subnet_api()
            .patch_status(&subnet.name_any(), &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    /// Gives a Vip that has none its addresses. Of a refusal only the real one's log would tell.
    pub(super) async fn answer_vip(&self, vip: &Vip, pool: &mut Pool) -> Result<()> {
        if !addresses(vip).is_empty() {
            return Ok(());
        }
        let asked = [&vip.spec.v4ip, &vip.spec.v6ip].into_iter().flatten();
        let requested: Vec<IpAddr> = asked.filter_map(|address| address.parse().ok()).collect();
        let Ok(chosen) = pool.take(&requested) else { return Ok(()) };
        let text = |v4: bool| chosen.iter().find(|address| address.is_ipv4() == v4).map(ToString::to_string);
        let status = json!({ "status": { "v4ip": text(true).unwrap_or_default(), "v6ip": text(false).unwrap_or_default() } });
        vip_api(&self.client)
            .patch_status(&vip.name_any(), &PatchParams::default(), &Patch::Merge(status))
            .await?;
        Ok(())
    }
}

fn vip_api(client: &Client) -> Api<Vip> {
    Api::all(client.clone())
}
