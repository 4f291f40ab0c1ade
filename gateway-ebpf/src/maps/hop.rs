//! What the programs are told of the way to the targets.

/// The neighbour on the cluster link, for those who cannot ask the kernel for it: one slot for each family.
///
/// In `hop` for XDP. A packet redirected into a device that does not take it is gone without a trace. So user space writes this
/// only after a frame sent that way has been answered, and for a short time: where it does not hold, packets go on to the tc
/// program, which needs none of it.
///
/// In `handover` for tc: the cluster link is a veth, and packets may be handed to its other end. Where it does not hold, they are sent by
/// the link, and the kernel finds the neighbour.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hop<A> {
    /// Address of the neighbour. Targets behind another one are the tc program's.
    pub address: A,
    /// Until when this holds: seconds of the programs' clock; 0: it never did.
    pub until: u32,
    /// Ethernet address of the neighbour.
    pub destination: [u8; 6],
    /// Ethernet address of the cluster link.
    pub source: [u8; 6],
    /// Ethernet address of the external link: XDP sees frames to others as well. Zero in `handover`.
    pub external: [u8; 6],
    /// Zero.
    pub pad: u16,
}
