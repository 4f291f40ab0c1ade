//! Which addresses a Service gets.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;

use super::{Family, Pool, Pools, Taken};
use crate::Refusal;
use crate::api::{Subnet, describe_service};

/// A VIP, its prefix length and its router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The VIP with the prefix length of its Subnet.
    pub address: IpNet,
    /// The Subnet's router.
    pub gateway: Option<IpAddr>,
}

const REQUEST: &str = "spec.loadBalancerIP";
const GIVEN: &str = "the given address";

/// A VIP of each of `families`: the one that the Service asks for in `spec.loadBalancerIP` or has been `given` before, else the
/// lowest that is not `taken`. What the Service itself holds in `taken` it may have.
///
/// # Errors
/// An address of another Subnet or family, one that no host can have, or one that another object holds; a request that differs from what was given; a pool
/// without a free address. There is no partial result.
pub fn choose(
    service: &Service,
    subnet: &Subnet,
    pools: &Pools,
    families: &[Family],
    given: &[IpAddr],
    taken: &Taken,
) -> Result<Vec<Choice>, Refusal> {
    let object = describe_service(service);
    let requested = requested(service)?;
    let fixed = requested
        .iter()
        .map(|address| (REQUEST, address))
        .chain(given.iter().map(|address| (GIVEN, address)));
    for (field, address) in fixed {
        if !families.contains(&Family::of(*address)) {
            let served: Vec<&str> = families.iter().map(|family| family.name()).collect();
            let fault = format!("{address}, but the Service is served by {} only", served.join(" and "));
            return Err(Refusal::new(
                &object,
                field,
                fault,
                "use an address of a family that Service and Subnet have",
            ));
        }
    }
    families
        .iter()
        .map(|family| {
            let pool = pools.get(*family).ok_or_else(|| lacks(subnet, *family))?;
            let asked = only(&object, REQUEST, &requested, *family)?;
            let held = only(&object, GIVEN, given, *family)?;
            let address = match (asked, held) {
                (Some(asked), Some(held)) if asked != held => {
                    let fault = format!("{asked}, but {held} was given");
                    return Err(Refusal::new(&object, REQUEST, fault, "ask for one of them"));
                }
                (Some(asked), _) => usable(&object, REQUEST, asked, pool, subnet, taken)?,
                (None, Some(held)) => usable(&object, GIVEN, held, pool, subnet, taken)?,
                (None, None) => pool.lowest_free(taken).ok_or_else(|| exhausted(subnet, pool))?,
            };
            let address = IpNet::new(address, pool.net().prefix_len()).map_err(|_| lacks(subnet, *family))?;
            Ok(Choice { address, gateway: pool.gateway() })
        })
        .collect()
}

/// The addresses in `spec.loadBalancerIP`: one, or one of each family with a comma.
///
/// # Errors
/// A part of it is not an address.
pub fn requested(service: &Service) -> Result<Vec<IpAddr>, Refusal> {
    let text = service.spec.as_ref().and_then(|spec| spec.load_balancer_ip.as_deref()).unwrap_or_default();
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            part.parse().map_err(|_| {
                let fault = format!("`{part}` is not an IP address");
                Refusal::new(
                    &describe_service(service),
                    REQUEST,
                    fault,
                    "write an address such as 172.18.0.18, or leave it out",
                )
            })
        })
        .collect()
}

/// The address of `family` among `addresses`.
fn only(object: &str, field: &str, addresses: &[IpAddr], family: Family) -> Result<Option<IpAddr>, Refusal> {
    let mut of_family = addresses.iter().copied().filter(|address| Family::of(*address) == family);
    match (of_family.next(), of_family.next()) {
        (Some(first), Some(second)) => {
            let fault = format!("{first} and {second} are both {}", family.name());
            Err(Refusal::new(object, field, fault, "use one address of each family"))
        }
        (first, _) => Ok(first),
    }
}

fn usable(
    object: &str,
    field: &str,
    address: IpAddr,
    pool: &Pool,
    subnet: &Subnet,
    taken: &Taken,
) -> Result<IpAddr, Refusal> {
    let holder = taken.get(&address).filter(|holder| *holder != object);
    let fault = pool.refuses(address).or_else(|| Some(format!("held by {}", holder?)));
    match fault {
        None => Ok(address),
        Some(fault) => {
            let fix = format!("use another address of Subnet {}", subnet.name());
            Err(Refusal::new(object, field, format!("{address} is {fault}"), fix))
        }
    }
}

fn exhausted(subnet: &Subnet, pool: &Pool) -> Refusal {
    let fault = format!("no address of {} is free", pool.net());
    Refusal::new(
        &subnet.describe(),
        "spec.cidrBlock",
        fault,
        "free an address, exclude fewer, or widen the prefix",
    )
}

fn lacks(subnet: &Subnet, family: Family) -> Refusal {
    let fault = format!("`{}` has no {} prefix", subnet.spec.cidr_block, family.name());
    Refusal::new(
        &subnet.describe(),
        "spec.cidrBlock",
        fault,
        "add one, or serve the Service on the other family only",
    )
}
