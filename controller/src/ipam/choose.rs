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

/// What a Service has of addresses already.
#[derive(Clone, Copy, Debug, Default)]
pub struct Had<'a> {
    /// What it holds: nobody else can have these.
    pub held: &'a [IpAddr],
    /// What it would like to go on with: nobody has reserved these for it.
    pub shown: &'a [IpAddr],
}

const REQUEST: &str = "spec.loadBalancerIP";

/// A VIP of each of `families`: the one that the Service prefers, else the lowest that is free. `taken` is what others have; what it says of
/// the Service itself is passed over.
///
/// # Errors
/// As of [`preferred`]; a pool without a free address. There is no partial result.
pub fn choose(
    service: &Service,
    subnet: &Subnet,
    pools: &Pools,
    families: &[Family],
    had: Had<'_>,
    taken: &Taken,
) -> Result<Vec<Choice>, Refusal> {
    let preferred = preferred(service, subnet, pools, families, had, taken)?;
    let choice = |(family, preferred): (&Family, Option<IpAddr>)| {
        let pool = pools.get(*family).ok_or_else(|| lacks(subnet, *family))?;
        let address = preferred.or_else(|| pool.lowest_free(taken)).ok_or_else(|| exhausted(subnet, pool))?;
        Choice::of(address, pool).ok_or_else(|| lacks(subnet, *family))
    };
    families.iter().zip(preferred).map(choice).collect()
}

/// Which address of each of `families` the Service is to have, the first that there is of: the one that it asks for in
/// `spec.loadBalancerIP`; one that it holds, best if it shows it, too; one that it shows, if that can be had. `None`: any.
///
/// # Errors
/// A request for an address of another Subnet or family, for one that no host can have, or for one that another object holds; a held address
/// that the Subnet has lost.
pub fn preferred(
    service: &Service,
    subnet: &Subnet,
    pools: &Pools,
    families: &[Family],
    had: Had<'_>,
    taken: &Taken,
) -> Result<Vec<Option<IpAddr>>, Refusal> {
    let object = describe_service(service);
    let requested = requested(service)?;
    if let Some(address) = requested.iter().find(|address| !families.contains(&Family::of(**address))) {
        let served: Vec<&str> = families.iter().map(|family| family.name()).collect();
        let fault = format!("{address}, but the Service is served by {} only", served.join(" and "));
        let fix = "use an address of a family that Service and Subnet have";
        return Err(Refusal::new(&object, REQUEST, fault, fix));
    }
    let of_family = |family: &Family| {
        let pool = pools.get(*family).ok_or_else(|| lacks(subnet, *family))?;
        if let Some(asked) = only(&object, &requested, *family)? {
            return usable(&object, asked, pool, subnet, taken).map(Some);
        }
        let held = keep(&object, had, *family, pool, subnet)?;
        Ok(held.or_else(|| first_shown(&object, had, pool, taken)))
    };
    families.iter().map(of_family).collect()
}

/// Of `given` one address of each of `families`: those that are `preferred`, or any where that says `None`. `None`: one is missing.
pub fn matching(given: &[IpAddr], families: &[Family], preferred: &[Option<IpAddr>]) -> Option<Vec<IpAddr>> {
    let address = |(family, preferred): (&Family, &Option<IpAddr>)| {
        let mut of_family = given.iter().copied().filter(|address| Family::of(*address) == *family);
        of_family.find(|address| preferred.is_none_or(|preferred| preferred == *address))
    };
    families.iter().zip(preferred).map(address).collect()
}

impl Choice {
    /// `address` with the prefix length and the router of `pool`; `None` if it is of another family.
    pub fn of(address: IpAddr, pool: &Pool) -> Option<Self> {
        let same_family = Family::of(address) == Family::of(pool.net().addr());
        let address = IpNet::new(address, pool.net().prefix_len()).ok()?;
        same_family.then(|| Self { address, gateway: pool.gateway() })
    }
}

/// The address of `family` that the Service holds and can go on with.
fn keep(
    object: &str,
    had: Had<'_>,
    family: Family,
    pool: &Pool,
    subnet: &Subnet,
) -> Result<Option<IpAddr>, Refusal> {
    let mut held: Vec<IpAddr> =
        had.held.iter().copied().filter(|address| Family::of(*address) == family).collect();
    held.sort_by_key(|address| (!had.shown.contains(address), *address));
    let usable = held.iter().copied().find(|address| pool.refuses(*address).is_none());
    match (usable, held.first()) {
        (None, Some(address)) => Err(lost(object, *address, pool, subnet)),
        (usable, _) => Ok(usable),
    }
}

/// An address that the Service shows and can have.
fn first_shown(object: &str, had: Had<'_>, pool: &Pool, taken: &Taken) -> Option<IpAddr> {
    let free = |address: &IpAddr| taken.get(address).is_none_or(|holder| holder == object);
    had.shown.iter().copied().find(|address| pool.refuses(*address).is_none() && free(address))
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

/// The address of `family` among the requested `addresses`.
fn only(object: &str, addresses: &[IpAddr], family: Family) -> Result<Option<IpAddr>, Refusal> {
    let mut of_family = addresses.iter().copied().filter(|address| Family::of(*address) == family);
    match (of_family.next(), of_family.next()) {
        (Some(first), Some(second)) => {
            let fault = format!("{first} and {second} are both {}", family.name());
            Err(Refusal::new(object, REQUEST, fault, "use one address of each family"))
        }
        (first, _) => Ok(first),
    }
}

fn usable(
    object: &str,
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
            Err(Refusal::new(object, REQUEST, format!("{address} is {fault}"), fix))
        }
    }
}

/// The Subnet was changed so that a held address does not belong to it any more.
fn lost(object: &str, address: IpAddr, pool: &Pool, subnet: &Subnet) -> Refusal {
    let is_router = pool.gateway() == Some(address);
    let field = if is_router { "spec.gateway" } else { "spec.cidrBlock" };
    let fault = pool.refuses(address).unwrap_or_default();
    let fix = format!("take the change back, or write another address into {REQUEST} of {object}");
    Refusal::new(&subnet.describe(), field, format!("{address}, which {object} holds, is {fault}"), fix)
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
