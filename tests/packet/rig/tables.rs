//! What the programs are told, and what they count.

use aya::maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray, lpm_trie, xdp::DevMap};
use sluice_gateway_ebpf::{
    maps::{Config, Hop, RangeKey, Service, ServiceKey, ServiceStats, TARGET_ACTIVE, Target, Timeouts},
    verdict::Drop,
};

use super::{
    CLUSTER_ETHERNET, CLUSTER_MTU, EXTERNAL_MTU, Net, Rig, SERVICE, TARGET, TARGET_PORT, VIP_PORT, clock,
};

impl<N: Net> Rig<N> {
    /// Writes the settings, after `change`.
    pub fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        let mut config = Config {
            external_ifindex: 101,
            cluster_ifindex: 102,
            external_mtu: EXTERNAL_MTU,
            cluster_mtu: CLUSTER_MTU,
            icmp_rate: 1000,
            pad: 0,
            timeouts: Timeouts::DEFAULT,
        };
        change(&mut config);
        let mut map: Array<_, Config> =
            self.ebpf.map_mut("config").expect("config").try_into().expect("array");
        map.set(0, config, 0).expect("write config");
    }

    /// Writes what the XDP program is told, after `change`.
    pub fn set_hop(&mut self, change: impl FnOnce(&mut Hop<N::Addr>)) {
        self.tell("hop", change);
    }

    /// Writes by which device the XDP program sends; 0: none is known.
    pub fn set_xdp_device(&mut self, index: u32) {
        let mut map: DevMap<_> =
            self.ebpf.map_mut("xdp_device").expect("xdp_device").try_into().expect("device map");
        map.set(0, index, None, 0).expect("write the device");
    }

    /// Writes what the tc program is told, after `change`.
    pub fn set_handover(&mut self, change: impl FnOnce(&mut Hop<N::Addr>)) {
        self.tell("handover", change);
    }

    fn tell(&mut self, map: &str, change: impl FnOnce(&mut Hop<N::Addr>)) {
        let [destination, source] = CLUSTER_ETHERNET;
        let until = clock().wrapping_add(1000);
        let mut hop = Hop { address: N::NEXT_HOP, until, destination, source, ..Hop::default() };
        change(&mut hop);
        let name = format!("{map}_{}", N::SUFFIX);
        let mut map: Array<_, Hop<N::Addr>> =
            self.ebpf.map_mut(&name).expect("hop").try_into().expect("array");
        map.set(0, hop, 0).expect("write the hop");
    }

    /// Writes a TCP target, after `change`; also slot + 100 as the same for UDP.
    pub fn set_target(&mut self, slot: u16, change: impl Fn(&mut Target<N::Addr>)) {
        for (slot, protocol) in [(slot, 6), (slot + 100, 17)] {
            let mut target = Target {
                address: N::TARGET,
                snat: N::SNAT,
                vip: N::VIP,
                vip_mask: N::MASK,
                cluster_next_hop: N::NEXT_HOP,
                external_next_hop: N::GATEWAY,
                port: TARGET_PORT,
                vip_port: VIP_PORT,
                protocol,
                state: TARGET_ACTIVE,
                pad: 0,
                service: SERVICE,
                generation: 1,
            };
            change(&mut target);
            self.write_target(slot, target);
        }
    }

    /// Writes one slot of `targets`.
    pub fn write_target(&mut self, slot: u16, target: Target<N::Addr>) {
        let name = format!("targets_{}", N::SUFFIX);
        let mut map: Array<_, Target<N::Addr>> =
            self.ebpf.map_mut(&name).expect("targets").try_into().expect("array");
        map.set(slot.into(), target, 0).expect("write a target");
    }

    /// Writes a service port that leads to [`TARGET`], after `change`.
    pub fn set_service(&mut self, port: u16, protocol: u8, change: impl FnOnce(&mut Service)) {
        let first_target = if protocol == 17 { TARGET + 100 } else { TARGET };
        let mut service = Service { id: SERVICE, first_target, target_count: 1, flags: 0, generation: 1 };
        change(&mut service);
        let key = ServiceKey { vip: N::VIP, port, protocol, pad: 0 };
        self.services().insert(key, service, 0).expect("write a service");
    }

    /// Removes a service port.
    pub fn remove_service(&mut self, port: u16, protocol: u8) {
        let key = ServiceKey { vip: N::VIP, port, protocol, pad: 0 };
        self.services().remove(&key).expect("remove a service");
    }

    fn services(&mut self) -> HashMap<&mut MapData, ServiceKey<N::Addr>, Service> {
        let name = format!("services_{}", N::SUFFIX);
        self.ebpf.map_mut(&name).expect("services").try_into().expect("hash")
    }

    /// Lets a prefix of `bits` bits of `client` use [`SERVICE`].
    pub fn allow(&mut self, client: N::Addr, bits: u32) {
        let name = format!("ranges_{}", N::SUFFIX);
        let mut map: LpmTrie<_, RangeKey<N::Addr>, u32> =
            self.ebpf.map_mut(&name).expect("ranges").try_into().expect("trie");
        let key = lpm_trie::Key::new(32 + bits, RangeKey { service: SERVICE.to_be_bytes(), client });
        map.insert(&key, 1, 0).expect("write a range");
    }

    /// Packets dropped for `reason`.
    pub fn dropped(&self, reason: Drop) -> u64 {
        let map: PerCpuArray<_, u64> = self.ebpf.map("drops").expect("drops").try_into().expect("array");
        map.get(&(reason as u32), 0).expect("read drops").iter().sum()
    }

    /// Every drop counter that is not zero.
    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        Drop::ALL.iter().map(|r| (r.name(), self.dropped(*r))).filter(|(_, count)| *count != 0).collect()
    }

    /// Counters of [`SERVICE`], summed over the CPUs.
    pub fn stats(&self) -> ServiceStats {
        let map: PerCpuArray<_, ServiceStats> =
            self.ebpf.map("service_stats").expect("stats").try_into().expect("array");
        map.get(&SERVICE, 0).expect("read stats").iter().fold(ServiceStats::default(), |sum, cpu| {
            ServiceStats {
                forward_packets: sum.forward_packets + cpu.forward_packets,
                forward_bytes: sum.forward_bytes + cpu.forward_bytes,
                reverse_packets: sum.reverse_packets + cpu.reverse_packets,
                reverse_bytes: sum.reverse_bytes + cpu.reverse_bytes,
                flows_opened: sum.flows_opened + cpu.flows_opened,
                flows_closed: sum.flows_closed + cpu.flows_closed,
            }
        })
    }
}
