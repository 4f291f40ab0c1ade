//! The operations and their arguments, as Kube-OVN's controller writes them.
//!
//! A rule is one argument, its fields separated by commas. Where the pod has an address of each family, Kube-OVN writes both, with a
//! comma between them, where one is meant; so fields are told apart by what they are:
//!
//! ```text
//! eip-add   VIP/PREFIX[,VIP/PREFIX],GATEWAY[,GATEWAY]
//! dnat-add  VIP[,VIP],PORT,PROTOCOL,CLUSTERIP,TARGETPORT,GATEWAY[,GATEWAY]
//! dnat-del  VIP[,VIP],PORT,PROTOCOL,CLUSTERIP,TARGETPORT
//! ```

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::Protocol;

/// What the pod is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Get ready.
    Init,
    /// Own these addresses.
    EipAdd(Vec<Eip>),
    /// Forward these ports.
    DnatAdd(Vec<Dnat>),
    /// Forward these no longer; the next hop is of no concern.
    DnatDel(Vec<Dnat>),
}

/// An address for clients.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Eip {
    /// The address with the prefix length of its subnet.
    pub address: IpNet,
    /// The subnet's router.
    pub gateway: Option<IpAddr>,
}

/// A forwarded port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Dnat {
    /// Where clients connect to.
    pub vip: IpAddr,
    /// Port of the VIP.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Where packets go; of the VIP's family.
    pub target: IpAddr,
    /// Port of the target.
    pub target_port: u16,
    /// Next hop towards the target.
    pub gateway: Option<IpAddr>,
}

/// Why arguments are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {field}: {fault}: {fix}")]
pub struct Fault {
    /// The operation.
    pub operation: String,
    /// The field of its rule.
    pub field: &'static str,
    /// What is wrong, with the value.
    pub fault: String,
    /// What to do about it.
    pub fix: &'static str,
}

const EIP_ADD: &str = "eip-add";
const DNAT_ADD: &str = "dnat-add";
const DNAT_DEL: &str = "dnat-del";

impl Operation {
    /// Reads the arguments that follow the script's name.
    ///
    /// # Errors
    /// An operation that there is not, or a rule that cannot be.
    pub fn parse(arguments: &[String]) -> Result<Self, Fault> {
        let (name, rules) =
            arguments.split_first().map_or(("", [].as_slice()), |(name, rules)| (name.as_str(), rules));
        let read = |what| Reader { operation: what, fields: Vec::new() };
        Ok(match name {
            "init" => Self::Init,
            EIP_ADD => Self::EipAdd(flatten(rules, |rule| read(EIP_ADD).of(rule).eips())?),
            DNAT_ADD => Self::DnatAdd(flatten(rules, |rule| Ok(vec![read(DNAT_ADD).of(rule).dnat()?]))?),
            DNAT_DEL => Self::DnatDel(flatten(rules, |rule| Ok(vec![read(DNAT_DEL).of(rule).dnat()?]))?),
            other => {
                return Err(Fault {
                    operation: "lb-svc.sh".to_owned(),
                    field: "the operation",
                    fault: format!("`{other}` is none"),
                    fix: "use init, eip-add, dnat-add or dnat-del",
                });
            }
        })
    }

    /// As the arguments name it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::EipAdd(_) => EIP_ADD,
            Self::DnatAdd(_) => DNAT_ADD,
            Self::DnatDel(_) => DNAT_DEL,
        }
    }
}

fn flatten<T>(rules: &[String], read: impl Fn(&str) -> Result<Vec<T>, Fault>) -> Result<Vec<T>, Fault> {
    Ok(rules.iter().map(|rule| read(rule)).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// Takes a rule's fields one by one.
struct Reader<'a> {
    operation: &'static str,
    fields: Vec<&'a str>,
}

impl<'a> Reader<'a> {
    /// The fields of `rule`, last first.
    fn of(mut self, rule: &'a str) -> Self {
        self.fields = rule.split(',').rev().collect();
        self
    }

    fn eips(mut self) -> Result<Vec<Eip>, Fault> {
        const FIELD: &str = "field 1, the address";
        const FIX: &str = "write VIP/PREFIX,GATEWAY such as 172.18.0.18/16,172.18.0.1";
        let first = self.next(FIELD, FIX)?;
        let mut addresses =
            vec![self.value::<IpNet>(FIELD, first, "an address with a prefix length", FIX)?];
        while let Some(more) = self.fields.pop_if(|field| field.contains('/')) {
            addresses.push(self.value(FIELD, more, "an address with a prefix length", FIX)?);
        }
        self.one_of_each_family(FIELD, addresses.iter().map(IpNet::addr))?;
        let gateways = self.gateways("the gateway")?;
        for gateway in &gateways {
            let subnet = addresses.iter().find(|address| address.addr().is_ipv4() == gateway.is_ipv4());
            let link_local = matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local());
            if !subnet.is_some_and(|subnet| link_local || subnet.contains(gateway)) {
                let fault = format!("{gateway} is in no subnet of {}", list(&addresses));
                return Err(self.fault("the gateway", fault, "name a router inside the subnet"));
            }
        }
        let of_family = |v4: bool| gateways.iter().copied().find(|gateway| gateway.is_ipv4() == v4);
        Ok(addresses
            .into_iter()
            .map(|address| Eip { address, gateway: of_family(address.addr().is_ipv4()) })
            .collect())
    }

    fn dnat(mut self) -> Result<Dnat, Fault> {
        const VIP: &str = "field 1, the VIP";
        const TARGET: &str = "the ClusterIP";
        const TARGET_PORT: &str = "the target port";
        const FIX: &str = "write VIP,PORT,PROTOCOL,CLUSTERIP,TARGETPORT,GATEWAY such as 172.18.0.18,80,tcp,10.96.0.7,80,10.16.0.1";
        const PORT_FIX: &str = "write a number from 1 to 65535";
        let first = self.next(VIP, FIX)?;
        let mut vips = vec![self.vip(VIP, first, FIX)?];
        // The second is told from the port by its dots or colons.
        while let Some(more) = self.fields.pop_if(|field| field.contains(['.', ':'])) {
            vips.push(self.vip(VIP, more, FIX)?);
        }
        self.one_of_each_family(VIP, vips.iter().copied())?;
        let port = self.port("the port", FIX, PORT_FIX)?;
        let protocol = match self.next("the protocol", FIX)?.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            other => {
                return Err(self.fault(
                    "the protocol",
                    format!("`{other}` is none"),
                    "write tcp, udp or sctp",
                ));
            }
        };
        let target = self.next(TARGET, FIX)?;
        let target = self.value::<IpAddr>(TARGET, target, "an IP address", "give the Service a ClusterIP")?;
        let target_port = self.port(TARGET_PORT, FIX, PORT_FIX)?;
        let gateways = self.gateways("the gateway of eth0")?;
        let Some(vip) = vips.iter().copied().find(|vip| vip.is_ipv4() == target.is_ipv4()) else {
            let fault = format!("{target} is of another family than {}", list(&vips));
            return Err(self.fault(TARGET, fault, "give the Service a ClusterIP of the VIP's family"));
        };
        if protocol == Protocol::Sctp && port != target_port {
            let fault = format!("port {port} and target port {target_port} differ");
            return Err(self.fault(
                TARGET_PORT,
                fault,
                "SCTP's checksum covers the ports: let the Service's port and targetPort be the same",
            ));
        }
        let gateway = gateways.into_iter().find(|gateway| gateway.is_ipv4() == target.is_ipv4());
        Ok(Dnat { vip, port, protocol, target, target_port, gateway })
    }

    fn next(&mut self, field: &'static str, fix: &'static str) -> Result<&'a str, Fault> {
        self.fields
            .pop()
            .filter(|text| !text.is_empty())
            .ok_or_else(|| self.fault(field, "it is missing".to_owned(), fix))
    }

    fn value<T: FromStr>(
        &self,
        field: &'static str,
        text: &str,
        what: &str,
        fix: &'static str,
    ) -> Result<T, Fault> {
        text.parse().map_err(|_| self.fault(field, format!("`{text}` is not {what}"), fix))
    }

    /// A prefix length has no meaning here, but the original's script passes over it.
    fn vip(&self, field: &'static str, text: &str, fix: &'static str) -> Result<IpAddr, Fault> {
        self.value(field, text.split('/').next().unwrap_or(text), "an IP address", fix)
    }

    fn port(&mut self, field: &'static str, missing: &'static str, fix: &'static str) -> Result<u16, Fault> {
        let text = self.next(field, missing)?;
        match text.parse() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(self.fault(field, format!("`{text}` is no port"), fix)),
        }
    }

    /// What is left. An empty field stands for a gateway that Kube-OVN does not know.
    fn gateways(&mut self, field: &'static str) -> Result<Vec<IpAddr>, Fault> {
        let texts: Vec<&str> = self.fields.drain(..).rev().filter(|text| !text.is_empty()).collect();
        let gateways = texts
            .into_iter()
            .map(|text| self.value(field, text, "an IP address", "write one, or one of each family"))
            .collect::<Result<Vec<_>, _>>()?;
        self.one_of_each_family(field, gateways.iter().copied())?;
        Ok(gateways)
    }

    fn one_of_each_family(
        &self,
        field: &'static str,
        addresses: impl Iterator<Item = IpAddr>,
    ) -> Result<(), Fault> {
        let (v4, v6): (Vec<_>, Vec<_>) = addresses.partition(IpAddr::is_ipv4);
        match [v4, v6].into_iter().find(|of_family| of_family.len() > 1) {
            None => Ok(()),
            Some(two) => {
                let fault = format!("{} are of one family", list(&two));
                Err(self.fault(
                    field,
                    fault,
                    "write one of each family at most, and a further rule for others",
                ))
            }
        }
    }

    fn fault(&self, field: &'static str, fault: String, fix: &'static str) -> Fault {
        Fault { operation: self.operation.to_owned(), field, fault, fix }
    }
}

fn list(values: &[impl fmt::Display]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}
