//! Flows and reservations: looked at, aged, made up, swept.

use aya::{Pod, maps::HashMap};
use sluice_gateway_ebpf::{
    conntrack::State,
    maps::{
        Activity, Flow, FlowKey, Owner, Reply as _, ReplyKey, SWEEP_ETHERTYPE, SWEEP_MAX_KEYS, flow_check,
    },
    ports,
};

use super::{Context, Net, Rig, TARGET, TARGET_PORT, VIP_PORT, client, clock};

impl<N: Net> Rig<N> {
    /// Every flow.
    pub fn flows(&self) -> Vec<(FlowKey<N::Addr>, Flow)> {
        let name = format!("flows_{}", N::SUFFIX);
        let map: HashMap<_, FlowKey<N::Addr>, Flow> =
            self.ebpf.map(&name).expect("flows").try_into().expect("hash");
        map.iter().map(|entry| entry.expect("read a flow")).collect()
    }

    /// The only flow.
    pub fn flow(&self) -> (FlowKey<N::Addr>, Flow) {
        let flows = self.flows();
        assert_eq!(flows.len(), 1, "{flows:?}");
        flows[0]
    }

    /// State of the only flow.
    pub fn state(&self) -> State {
        State::from_raw(self.flow().1.state)
    }

    /// Overwrites a flow, to let it age.
    pub fn put_flow(&mut self, key: FlowKey<N::Addr>, flow: Flow) {
        let name = format!("flows_{}", N::SUFFIX);
        let mut map: HashMap<_, FlowKey<N::Addr>, Flow> =
            self.ebpf.map_mut(&name).expect("flows").try_into().expect("hash");
        map.insert(key, flow, 0).expect("write a flow");
    }

    /// Overwrites a reservation, to let it age.
    pub fn put_reply(&mut self, key: ReplyKey<N::Addr>, reply: N::Reply) {
        let name = format!("replies_{}", N::SUFFIX);
        let mut map: HashMap<_, ReplyKey<N::Addr>, N::Reply> =
            self.ebpf.map_mut(&name).expect("replies").try_into().expect("hash");
        map.insert(key, reply, 0).expect("write a reply");
    }

    /// Every reservation.
    pub fn replies(&self) -> Vec<(ReplyKey<N::Addr>, N::Reply)> {
        let name = format!("replies_{}", N::SUFFIX);
        let map: HashMap<_, ReplyKey<N::Addr>, N::Reply> =
            self.ebpf.map(&name).expect("replies").try_into().expect("hash");
        map.iter().map(|entry| entry.expect("read a reply")).collect()
    }

    /// Reservations that belong to somebody.
    pub fn reserved(&self) -> Vec<ReplyKey<N::Addr>> {
        self.replies()
            .into_iter()
            .filter(|(_, reply)| reply.owner().target != 0)
            .map(|(key, _)| key)
            .collect()
    }

    /// Lets every flow and reservation be `seconds` older.
    pub fn age(&mut self, seconds: u32) {
        self.age_flows(seconds);
        for (key, reply) in self.replies() {
            let activity = older(reply.activity(), seconds);
            self.put_reply(key, N::Reply::new(&reply.owner(), activity));
        }
    }

    /// Lets every flow be `seconds` older, as its client is concerned.
    pub fn age_flows(&mut self, seconds: u32) {
        for (key, mut flow) in self.flows() {
            flow.activity = older(Activity(flow.activity), seconds).0;
            self.put_flow(key, flow);
        }
    }

    /// Reserves every port towards [`TARGET`] for a flow in `state`, each of a client of its own.
    pub fn fill_ports(&mut self, state: State) {
        let now = clock();
        let datagrams = matches!(state, State::UdpUnreplied | State::UdpReplied | State::UdpStream);
        let (protocol, slot) = if datagrams { (17, TARGET + 100) } else { (6, TARGET) };
        for number in 0..ports::COUNT {
            let port = ports::FIRST + number as u16;
            let owner = Owner { client: client::<N>(1000 + number), client_port: 1, target: slot };
            let key =
                FlowKey { client: owner.client, vip: N::VIP, client_port: 1, vip_port: VIP_PORT, protocol };
            let reply = ReplyKey {
                target: N::TARGET,
                snat: N::SNAT,
                target_port: TARGET_PORT,
                snat_port: port,
                protocol,
            };
            let activity = Activity::new(now, 1);
            let flow = Flow {
                snat_port: port,
                target: slot,
                check: flow_check(&key),
                state: state as u8,
                pad: 0,
                activity: activity.0,
            };
            self.put_reply(reply, N::Reply::new(&owner, activity));
            self.put_flow(key, flow);
        }
    }

    /// Names every flow to the sweep; returns how many it deleted.
    pub fn sweep_flows(&self, operation: u8) -> i32 {
        self.sweep(operation, &self.flows())
    }

    /// Names every reservation to the sweep; returns how many it deleted.
    pub fn sweep_replies(&self, operation: u8) -> i32 {
        self.sweep(operation, &self.replies())
    }

    fn sweep<K: Pod + bytemuck::Pod, V>(&self, operation: u8, entries: &[(K, V)]) -> i32 {
        let run = |entries: &[(K, V)]| {
            let keys: Vec<K> = entries.iter().map(|(key, _)| *key).collect();
            self.run("sweep", &sweep_request(operation, &keys), Context::default()).verdict
        };
        entries.chunks(SWEEP_MAX_KEYS as usize).map(run).sum()
    }
}

/// What names `keys` to the sweep.
pub fn sweep_request<K: bytemuck::Pod>(operation: u8, keys: &[K]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend(SWEEP_ETHERTYPE.to_be_bytes());
    frame.extend([operation, keys.len() as u8]);
    frame.extend(bytemuck::cast_slice::<K, u8>(keys));
    frame
}

/// The same activity, `seconds` longer ago.
fn older(activity: Activity, seconds: u32) -> Activity {
    let now = clock();
    Activity::new(now.wrapping_sub(activity.idle(now) + seconds), activity.bytes())
}
