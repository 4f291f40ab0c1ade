//! Sluice's own allocations against a model of the API server: caches that lag, answers that are lost, processes that die.

mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{
    LoadBalancerIngress, LoadBalancerStatus, Service, ServiceSpec, ServiceStatus,
};
use kube::runtime::reflector;
use kube::runtime::watcher::Event;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::watch;

use self::server::{Fault, Server};
use super::{Addresses, KubeOvnMode, Outcome, Request};
use crate::Refusal;
use crate::api::{Holder, IPReservation, NetworkConfig, Provider, Subnet, SubnetSpec};
use crate::ipam::{Family, Pools};
use crate::lease::Gate;
use crate::operator::writer::{WriteError, Writer};

/// A controller, the cluster around it, and what its Services were given.
struct World {
    server: Server,
    cache: reflector::store::Writer<IPReservation>,
    lease: watch::Sender<Option<Instant>>,
    addresses: Addresses,
    subnet: Subnet,
    services: Vec<Service>,
    /// What each Service was given last.
    given: BTreeMap<usize, Vec<IpAddr>>,
}

impl World {
    fn new(families: u8, services: usize) -> Self {
        let cidr = ["10.0.0.0/28", "fd00::/124", "10.0.0.0/28,fd00::/124"][usize::from(families)];
        let spec = SubnetSpec {
            provider: "net.default".to_owned(),
            cidr_block: cidr.to_owned(),
            gateway: ["10.0.0.1", "fd00::1", "10.0.0.1,fd00::1"][usize::from(families)].to_owned(),
            exclude_ips: vec!["10.0.0.4..10.0.0.5".to_owned(), "fd00::4..fd00::5".to_owned()],
            ..SubnetSpec::default()
        };
        let server = Server::default();
        let cache = reflector::store::Writer::new(());
        let (lease, addresses) = process(&server, &cache);
        let services = (0..services).map(service).collect();
        Self {
            server,
            cache,
            lease,
            addresses,
            subnet: Subnet::new("external", spec),
            services,
            given: BTreeMap::new(),
        }
    }

    /// The process dies, and another begins, with the cache that there is.
    fn restart(&mut self) {
        (self.lease, self.addresses) = process(&self.server, &self.cache);
    }

    /// The cache gets to know everything.
    fn catch_up(&mut self) {
        self.cache.apply_watcher_event(&Event::Init);
        for object in self.server.objects() {
            self.cache.apply_watcher_event(&Event::InitApply(serde_json::from_value(object).unwrap()));
        }
        self.cache.apply_watcher_event(&Event::InitDone);
    }

    fn families(&self) -> Vec<Family> {
        let pools = Pools::of(&self.subnet).unwrap();
        [Family::V4, Family::V6].into_iter().filter(|family| pools.get(*family).is_some()).collect()
    }

    async fn ensure(&self, service: usize) -> Result<Outcome, WriteError> {
        let provider: Provider = "net.default".parse().unwrap();
        let network = NetworkConfig { plugin: None, ipam: None, has_comments: false, content: json!(null) };
        let request = Request {
            service: &self.services[service],
            provider: &provider,
            network: &network,
            subnet: &self.subnet,
            pools: &Pools::of(&self.subnet).unwrap(),
            families: &self.families(),
            pods: &[],
            deployment: None,
        };
        self.addresses.ensure(&request).await
    }

    /// The same until it succeeds or is refused.
    async fn settle(&mut self, service: usize) -> Result<Vec<IpAddr>, Refusal> {
        for _ in 0..100 {
            let outcome = self.ensure(service).await;
            if let Some(result) = self.note(service, outcome) {
                return result;
            }
        }
        panic!("it never ends");
    }

    /// Takes down what came of a pass.
    fn note(
        &mut self,
        service: usize,
        outcome: Result<Outcome, WriteError>,
    ) -> Option<Result<Vec<IpAddr>, Refusal>> {
        match outcome {
            Ok(Outcome::Given { vips, .. }) => {
                let vips: Vec<IpAddr> = vips.iter().map(|vip| vip.address.addr()).collect();
                self.check_given(service, &vips);
                self.given.insert(service, vips.clone());
                let ingress = vips
                    .iter()
                    .map(|ip| LoadBalancerIngress { ip: Some(ip.to_string()), ..Default::default() })
                    .collect();
                self.services[service].status = Some(ServiceStatus {
                    load_balancer: Some(LoadBalancerStatus { ingress: Some(ingress) }),
                    ..Default::default()
                });
                Some(Ok(vips))
            }
            Ok(Outcome::Refused(refusal)) => Some(Err(refusal)),
            Ok(other) => panic!("{other:?}"),
            Err(WriteError::Api(_)) => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn asked(&self, service: usize) -> Vec<IpAddr> {
        crate::ipam::requested(&self.services[service]).unwrap()
    }

    fn ask(&mut self, service: usize, hosts: &[u8]) {
        let texts: Vec<String> = self
            .families()
            .into_iter()
            .zip(hosts)
            .map(|(family, host)| address(family, *host).to_string())
            .collect();
        self.services[service].spec.as_mut().unwrap().load_balancer_ip =
            Some(texts.join(",")).filter(|text| !text.is_empty());
    }

    fn check_given(&self, service: usize, vips: &[IpAddr]) {
        let families: Vec<Family> = vips.iter().map(|vip| Family::of(*vip)).collect();
        assert_eq!(families, self.families(), "one of each family");
        let asked = self.asked(service);
        for vip in vips {
            assert_eq!(self.holder(*vip).as_deref(), Some(uid(service).as_str()), "{vip} is reserved");
            let host = host(*vip);
            let is_asked = asked.contains(vip);
            let is_old = self.given.get(&service).is_some_and(|given| given.contains(vip));
            assert!((2..=15).contains(&host) && (host != 15 || vip.is_ipv6()), "{vip} is no host");
            assert!(is_asked || is_old || !(4..=5).contains(&host), "{vip} is excluded");
            if !is_asked && !asked.iter().any(|asked| asked.is_ipv4() == vip.is_ipv4()) {
                let old = self.given.get(&service);
                assert!(old.is_none_or(|old| old.contains(vip)), "{vip} is another than {old:?}");
            }
        }
    }

    /// Who holds an address.
    fn holder(&self, address: IpAddr) -> Option<String> {
        self.all().into_iter().find(|(found, _)| *found == address).map(|(_, uid)| uid)
    }

    fn all(&self) -> BTreeSet<(IpAddr, String)> {
        let read = |object: Value| {
            let spec = serde_json::from_value::<IPReservation>(object).unwrap().spec;
            (spec.address, spec.service.uid)
        };
        self.server.objects().into_iter().map(read).collect()
    }

    fn held(&self, service: usize) -> Vec<IpAddr> {
        self.all()
            .into_iter()
            .filter(|(_, holder)| *holder == uid(service))
            .map(|(address, _)| address)
            .collect()
    }

    /// The lowest address that nobody holds, found by walking.
    fn lowest(&self, family: Family) -> Option<IpAddr> {
        let last = if family == Family::V4 { 14 } else { 15 };
        let mut hosts = (2..=last).filter(|host| !(4..=5).contains(host)).map(|host| address(family, host));
        hosts.find(|address| self.holder(*address).is_none())
    }

    async fn release(&mut self, service: usize) {
        for _ in 0..100 {
            if self.addresses.release_all(&Holder::of(&self.services[service])).await.is_ok() {
                self.given.remove(&service);
                self.services[service].status = None;
                return;
            }
        }
        panic!("it never ends");
    }

    async fn release_others(&self, service: usize) {
        let keep = self.given.get(&service).cloned().unwrap_or_default();
        for _ in 0..100 {
            if self.addresses.release_others(&self.services[service], &keep, &[]).await.is_ok() {
                return;
            }
        }
        panic!("it never ends");
    }
}

fn process(
    server: &Server,
    cache: &reflector::store::Writer<IPReservation>,
) -> (watch::Sender<Option<Instant>>, Addresses) {
    let (lease, gate) = Gate::new();
    lease.send_replace(Some(Instant::now() + Duration::from_secs(3600)));
    let writer = Writer::new(server.client(), gate, crate::admin::Metrics::default());
    (lease, Addresses::new(writer, cache.as_reader(), None, KubeOvnMode::Auto))
}

fn uid(service: usize) -> String {
    format!("uid-{service}")
}

fn service(index: usize) -> Service {
    let mut service = Service { spec: Some(ServiceSpec::default()), ..Service::default() };
    service.metadata.namespace = Some("default".to_owned());
    service.metadata.name = Some(format!("service-{index}"));
    service.metadata.uid = Some(uid(index));
    service
}

fn address(family: Family, host: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([10, 0, 0, host]),
        Family::V6 => format!("fd00::{host:x}").parse().unwrap(),
    }
}

fn host(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    }
}

/// Another cluster member's reservation.
fn foreign(family: Family, host: u8) -> Value {
    let address = address(family, host);
    let name = crate::ipam::name::reservation("net.default", address);
    json!({
        "apiVersion": "sluice.io/v1alpha1", "kind": "IPReservation", "metadata": {"name": name},
        "spec": {"address": address, "provider": "net.default", "subnet": "external",
            "service": {"namespace": "other", "name": "foreign", "uid": "foreign"}},
    })
}

#[derive(Clone, Debug)]
enum Step {
    /// A pass over one Service.
    Pass(usize),
    /// A pass over every Service, all at once.
    Together,
    /// The Service goes, and comes again.
    Release(usize),
    /// What the Service no longer uses goes.
    ReleaseOthers(usize),
    /// `spec.loadBalancerIP` becomes these hosts of the Subnet.
    Ask(usize, Vec<u8>),
    CatchUp,
    Restart,
    /// Somebody else takes an address, or frees it.
    Foreign(u8, bool),
    Faults(Vec<Option<Fault>>),
}

const SERVICES: usize = 5;

fn step() -> impl Strategy<Value = Step> {
    let fault = prop_oneof![Just(None), Just(Some(Fault::Refused)), Just(Some(Fault::AnswerLost))];
    prop_oneof![
        6 => (0..SERVICES).prop_map(Step::Pass),
        3 => Just(Step::Together),
        2 => (0..SERVICES).prop_map(Step::Release),
        2 => (0..SERVICES).prop_map(Step::ReleaseOthers),
        2 => ((0..SERVICES), proptest::collection::vec(0_u8..=15, 0..=2)).prop_map(|(at, hosts)| Step::Ask(at, hosts)),
        3 => Just(Step::CatchUp),
        2 => Just(Step::Restart),
        2 => (2_u8..=14, any::<bool>()).prop_map(|(host, takes)| Step::Foreign(host, takes)),
        2 => proptest::collection::vec(fault, 1..4).prop_map(Step::Faults),
    ]
}

impl World {
    async fn run(&mut self, step: Step) {
        match step {
            Step::Pass(at) => {
                let expected: Vec<Option<IpAddr>> =
                    self.families().into_iter().map(|family| self.lowest(family)).collect();
                let is_plain = self.asked(at).is_empty()
                    && self.held(at).is_empty()
                    && self.server.is_sound()
                    && self.cache_is_current();
                let result = self.settle(at).await;
                if is_plain {
                    let expected: Option<Vec<IpAddr>> = expected.into_iter().collect();
                    assert_eq!(result.ok(), expected, "the lowest free ones, or none");
                }
            }
            Step::Together => {
                let outcomes = join_all((0..SERVICES).map(|at| self.ensure(at))).await;
                for (at, outcome) in outcomes.into_iter().enumerate() {
                    self.note(at, outcome);
                }
            }
            Step::Release(at) => {
                self.release(at).await;
                assert_eq!(self.held(at), Vec::<IpAddr>::new());
            }
            Step::ReleaseOthers(at) => self.release_others(at).await,
            Step::Ask(at, hosts) => self.ask(at, &hosts),
            Step::CatchUp => self.catch_up(),
            Step::Restart => self.restart(),
            Step::Foreign(host, takes) => {
                let family = self.families()[0];
                let object = foreign(family, host);
                let name = object["metadata"]["name"].as_str().unwrap().to_owned();
                match self.holder(address(family, host)) {
                    None if takes => self.server.put(object),
                    Some(holder) if holder == "foreign" && !takes => self.server.remove(&name),
                    _ => {}
                }
            }
            Step::Faults(faults) => self.server.befall(faults),
        }
    }

    /// Whether neither cache nor book knows anything but what is.
    fn cache_is_current(&self) -> bool {
        let book = self.addresses.book();
        let known = book.possibly_taken(&self.addresses.reservations.state());
        known == self.all().into_iter().map(|(address, _)| address).collect()
    }

    /// What has to hold however it went on.
    async fn check_end(&mut self) {
        self.server.heal();
        self.catch_up();
        for at in 0..SERVICES {
            let before = self.given.get(&at).cloned();
            let result = self.settle(at).await;
            let held = self.held(at);
            match (result, before) {
                (Ok(vips), _) => assert!(vips.iter().all(|vip| held.contains(vip)), "{vips:?} of {held:?}"),
                (Err(_), Some(before)) => {
                    assert!(
                        before.iter().all(|vip| held.contains(vip)),
                        "{before:?} stay with it, not {held:?}"
                    );
                }
                // What was given without its knowing it may keep, for when the request is taken back.
                (Err(refusal), None) => {
                    let families: BTreeSet<Family> =
                        held.iter().map(|address| Family::of(*address)).collect();
                    let whole = families.is_empty() || families.len() == self.families().len();
                    assert!(whole, "{held:?} is neither all families nor none: {refusal}");
                }
            }
        }
        let before = self.server.writes();
        for at in 0..SERVICES {
            drop(self.settle(at).await);
        }
        assert_eq!(self.server.writes(), before, "in order, nothing is written");
        for at in 0..SERVICES {
            self.release(at).await;
        }
        assert!(self.all().iter().all(|(_, holder)| holder == "foreign"), "nothing leaks: {:?}", self.all());
    }
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

proptest! {
    /// Never two owners (the names see to that), never outside, sticky, lowest free, all families or none, nothing leaks.
    #[test]
    fn whatever_happens(families in 0_u8..3, steps in proptest::collection::vec(step(), 1..30)) {
        block_on(async {
            let mut world = World::new(families, SERVICES);
            for step in steps {
                world.run(step).await;
            }
            world.check_end().await;
        });
    }
}

#[test]
fn the_first_family_is_freed_where_the_second_turns_out_to_be_anothers() {
    block_on(async {
        let mut world = World::new(2, 1);
        let served = world.settle(0).await.unwrap();
        // Behind the cache's back, and after this process has read what there is.
        world.server.put(foreign(Family::V6, 9));
        world.ask(0, &[8, 9]);
        let refusal = world.settle(0).await.unwrap_err();
        assert!(refusal.fault.contains("fd00::9 is held by Service other/foreign"), "{refusal}");
        assert_eq!(world.held(0), served, "what is served stays, and nothing comes to it");
    });
}

#[test]
fn half_a_pair_is_freed_where_the_other_half_cannot_be_had_any_more() {
    for fault in [Fault::Refused, Fault::AnswerLost] {
        block_on(async {
            let mut world = World::new(2, 1);
            world.server.befall([None, Some(fault)]);
            world.ensure(0).await.expect_err("the second reservation fails");
            // No host can have the network's address.
            world.ask(0, &[0]);
            world.settle(0).await.unwrap_err();
            let held = world.held(0);
            // Both may stay, for when the request is taken back.
            assert!(held.is_empty() || held.len() == 2, "{fault:?}: {held:?}");
        });
    }
}
