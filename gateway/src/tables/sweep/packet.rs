//! The requests that name candidates to the sweep programs: see [`SWEEP_ETHERTYPE`].

use bytemuck::Pod;
use sluice_gateway_ebpf::maps::{SWEEP_ETHERTYPE, SWEEP_EXPIRED, SWEEP_FLUSH, SWEEP_MAX_KEYS, SWEEP_REPLIES};

/// What the program shall do with the keys.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Flow keys: delete those that are dead or whose target no longer takes them.
    Judge = SWEEP_EXPIRED,
    /// Flow keys: delete.
    Flush = SWEEP_FLUSH,
    /// Reply keys: delete those that no flow has named for a while.
    Replies = SWEEP_REPLIES,
}

/// The packets that name `keys`.
pub(super) fn packets<K: Pod>(op: Op, keys: &[K]) -> impl Iterator<Item = Vec<u8>> {
    keys.chunks(SWEEP_MAX_KEYS as usize).map(move |keys| {
        let mut packet = vec![0; 12];
        packet.extend(SWEEP_ETHERTYPE.to_be_bytes());
        packet.extend([op as u8, keys.len() as u8]);
        packet.extend(bytemuck::cast_slice::<K, u8>(keys));
        packet
    })
}

#[cfg(test)]
mod tests {
    use sluice_gateway_ebpf::maps::FlowKey;

    use super::*;

    #[test]
    fn keys_are_named_64_at_a_time() {
        let key = FlowKey {
            client: [10, 0, 0, 1],
            vip: [172, 18, 0, 18],
            client_port: 4660,
            vip_port: 80,
            protocol: 6,
        };
        let packets: Vec<_> = packets(Op::Flush, &vec![key; 65]).collect();
        assert_eq!(packets.iter().map(Vec::len).collect::<Vec<_>>(), [16 + 64 * 16, 16 + 16]);
        assert_eq!(packets[0][12..16], [0x88, 0xb5, 2, 64]);
        assert_eq!(packets[1][15], 1);
        let port = 4660_u16.to_ne_bytes();
        assert_eq!(packets[1][16..24], [10, 0, 0, 1, 172, 18, 0, 18]);
        assert_eq!((&packets[1][24..26], packets[1][28]), (&port[..], 6));
    }
}
