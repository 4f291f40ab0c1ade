//! Route netlink, as far as traffic control filters and XDP need it: short synchronous requests in this thread's network namespace.
//!
//! aya attaches and detaches a filter that it is told of, but lists none.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkInfo, LinkMessage, LinkXdp},
    tc::{TcAttribute, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::slots::Direction;

/// A filter on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    /// Kind of the filter, such as `bpf` or `flower`.
    pub kind: String,
    /// Priority.
    pub priority: u16,
    /// Handle; 0 for the entry that the kernel lists for the priority as such.
    pub handle: aya::programs::tc::TcHandle,
    /// Name of a BPF filter, usually its program's.
    pub name: Option<String>,
    /// Id of a BPF filter's program.
    pub program: Option<u32>,
}

/// The filters on `ifindex`, in the order in which they run. None without a clsact qdisc.
pub(super) fn filters(ifindex: u32, direction: Direction) -> io::Result<Vec<Filter>> {
    let mut request = message(ifindex)?;
    request.header.parent = TcHandle { major: u16::MAX, minor: minor(direction) };
    let answers = call(RouteNetlinkMessage::GetTrafficFilter(request), NLM_F_DUMP)?;
    let filter = |answer| match answer {
        RouteNetlinkMessage::NewTrafficFilter(filter) => Some(parse_filter(&filter)),
        _ => None,
    };
    Ok(answers.into_iter().filter_map(filter).collect())
}

/// Kind of the qdisc that holds the filters of `ifindex`: `clsact`, `ingress`, or none.
pub(super) fn filter_qdisc(ifindex: u32) -> io::Result<Option<String>> {
    let answers = call(RouteNetlinkMessage::GetQueueDiscipline(message(ifindex)?), NLM_F_DUMP)?;
    let kind = |answer| match answer {
        RouteNetlinkMessage::NewQueueDiscipline(qdisc)
            if u32::try_from(qdisc.header.index) == Ok(ifindex)
                && qdisc.header.parent == TcHandle::CLSACT =>
        {
            kind(&qdisc)
        }
        _ => None,
    };
    Ok(answers.into_iter().find_map(kind))
}

/// Removes the clsact qdisc of `ifindex` with all its filters.
pub(super) fn delete_clsact(ifindex: u32) -> io::Result<()> {
    let mut request = message(ifindex)?;
    request.header.parent = TcHandle::CLSACT;
    request.header.handle = TcHandle { major: u16::MAX, minor: 0 };
    request.attributes.push(TcAttribute::Kind("clsact".to_owned()));
    call(RouteNetlinkMessage::DelQueueDiscipline(request), NLM_F_ACK).map(drop)
}

/// What a device is, as far as XDP asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct XdpDevice {
    /// Kind of a device of software, such as `veth`.
    pub kind: Option<String>,
    /// Id of the program that its driver runs.
    pub program: Option<u32>,
}

/// Asks for the device `ifindex`.
pub(super) fn xdp_device(ifindex: u32) -> io::Result<XdpDevice> {
    let mut request = LinkMessage::default();
    request.header.index = ifindex;
    let mut device = XdpDevice::default();
    for answer in call(RouteNetlinkMessage::GetLink(request), NLM_F_ACK)? {
        let RouteNetlinkMessage::NewLink(link) = answer else { continue };
        for attribute in link.attributes {
            match attribute {
                LinkAttribute::LinkInfo(facts) => {
                    device.kind = facts.into_iter().find_map(|fact| match fact {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                }
                LinkAttribute::Xdp(facts) => {
                    device.program = facts.into_iter().find_map(|fact| match fact {
                        LinkXdp::DrvProgId(id) => Some(id),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
    }
    Ok(device)
}

const fn minor(direction: Direction) -> u16 {
    match direction {
        Direction::Ingress => TcHandle::MIN_INGRESS,
        Direction::Egress => TcHandle::MIN_EGRESS,
    }
}

fn message(ifindex: u32) -> io::Result<TcMessage> {
    Ok(TcMessage::with_index(i32::try_from(ifindex).map_err(io::Error::other)?))
}

fn kind(message: &TcMessage) -> Option<String> {
    message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Kind(kind) => Some(kind.clone()),
        _ => None,
    })
}

fn parse_filter(message: &TcMessage) -> Filter {
    let mut filter = Filter {
        kind: kind(message).unwrap_or_default(),
        priority: (message.header.info >> 16) as u16,
        handle: aya::programs::tc::TcHandle::new(message.header.handle.major, message.header.handle.minor),
        name: None,
        program: None,
    };
    if filter.kind != TcFilterBpf::KIND {
        return filter;
    }
    let options = message.attributes.iter().filter_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    });
    for option in options.flatten() {
        match option {
            TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => filter.name = Some(name.clone()),
            TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => filter.program = Some(*id),
            _ => {}
        }
    }
    filter
}

/// Sends a request and collects the answers up to their end.
fn call(request: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = &datagram[..];
        while !rest.is_empty() {
            let message =
                NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
            let length = (message.header.length as usize).next_multiple_of(4);
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(answers),
                // Code 0 is the acknowledgement.
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answers),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                _ => {}
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}
