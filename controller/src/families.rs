//! The ClusterIPs of a Service, and the address families that it is served on.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;

use crate::Refusal;
use crate::api::{Subnet, describe_service};
use crate::ipam::{Family, Pools};

/// The ClusterIPs, in the order of the Service.
///
/// # Errors
/// There is none yet, the Service is headless, or one is not an address.
pub fn cluster_ips(service: &Service) -> Result<Vec<IpAddr>, Refusal> {
    let object = describe_service(service);
    let spec = service.spec.as_ref();
    let all = spec.and_then(|spec| spec.cluster_ips.as_deref()).unwrap_or_default();
    let first = spec.and_then(|spec| spec.cluster_ip.as_ref());
    let texts: Vec<&String> = if all.is_empty() { first.into_iter().collect() } else { all.iter().collect() };
    let texts: Vec<&String> = texts.into_iter().filter(|text| !text.is_empty()).collect();
    if texts.is_empty() {
        let fix =
            "the API server fills it in when the Service is created; for `render`, give it by --cluster-ip";
        return Err(Refusal::new(&object, "spec.clusterIP", "missing", fix));
    }
    let parse = |text: &String| {
        text.parse().map_err(|_| {
            let fix = "a LoadBalancer Service needs a ClusterIP";
            Refusal::new(&object, "spec.clusterIP", format!("`{text}` is not an IP address"), fix)
        })
    };
    texts.into_iter().map(parse).collect()
}

/// The families that both `service` and its Subnet have, in the order of the Service. A Service that requires dual stack
/// gets both or nothing.
///
/// # Errors
/// The Service and the Subnet have no family in common, or not both although the Service requires it.
pub fn served(
    service: &Service,
    cluster_ips: &[IpAddr],
    subnet: &Subnet,
    pools: &Pools,
) -> Result<Vec<Family>, Refusal> {
    let object = describe_service(service);
    let spec = service.spec.as_ref();
    let written = spec.and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default();
    let wanted: Vec<Family> = if written.is_empty() {
        cluster_ips.iter().map(|address| Family::of(*address)).collect()
    } else {
        written.iter().map(|text| family(&object, text)).collect::<Result<_, _>>()?
    };
    let common: Vec<Family> = wanted.iter().copied().filter(|family| pools.get(*family).is_some()).collect();
    let required = spec.and_then(|spec| spec.ip_family_policy.as_deref()) == Some("RequireDualStack");
    if common.is_empty() || (required && common.len() < 2) {
        let wanted: Vec<&str> = wanted.iter().map(|family| family.name()).collect();
        let block = &subnet.spec.cidr_block;
        return Err(Refusal::new(
            &object,
            "spec.ipFamilies",
            format!("{}, but Subnet {} has `{block}`", wanted.join(" and "), subnet.name()),
            "use a Subnet of these families, or change the Service's families",
        ));
    }
    if let Some(family) =
        common.iter().find(|family| !cluster_ips.iter().any(|ip| Family::of(*ip) == **family))
    {
        let fault = format!("no {} address among the ClusterIPs", family.name());
        return Err(Refusal::new(&object, "spec.clusterIPs", fault, "for `render`, give it by --cluster-ip"));
    }
    Ok(common)
}

fn family(object: &str, text: &str) -> Result<Family, Refusal> {
    [Family::V4, Family::V6].into_iter().find(|family| family.name() == text).ok_or_else(|| {
        Refusal::new(object, "spec.ipFamilies", format!("`{text}` is not a family"), "use IPv4 or IPv6")
    })
}
