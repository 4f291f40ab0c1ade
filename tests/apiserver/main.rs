//! The apiserver rung: the real controller against real etcd, kube-apiserver and kube-controller-manager. Needs no root. Its part with
//! packets, which does, is in `tests/traffic`.
//!
//! All tests share one control plane, which starts within seconds when the first test asks for it. Each test has a namespace of its own and a
//! controller that looks at nothing else, so they run side by side. The kubelet and Kube-OVN are played.
//!
//! ```no_run
//! use sluice_apiserver_tests::world;
//!
//! #[test]
//! fn an_address_stays_when_the_pod_is_replaced() {
//!     world::test(async |world| {
//!         let network = world.external_network().await; // or world.network("name", "10.0.0.0/24").gateway(..).exclude(..).create()
//!         let mut controller = world.controller().await.with("--grace-period=1s");
//!         controller.start().await;
//!         world.service("web").on(&network).port(80).create().await;
//!         assert_eq!(world.published("web").await, ["172.18.0.11"]);
//!
//!         world.delete_pod(&world.gateway_pod("web").await).await;
//!         world.gateway_pod("web").await;
//!         assert_eq!(world.vips("web").await, ["172.18.0.11"]);
//!     });
//! }
//! ```
//!
//! * `world` has what tests ask for again and again: `published`, `withdrawn`, `event`, `gateway_pod`, `reservations`, `gone`, `apply`
//!   (manifests as they are), and `api::<Kind>()` for everything else. What should come to pass is waited for by `wait::eventually`,
//!   never by a sleep.
//! * `controller` is a process: `launch`, `start` (and wait until it is ready), `kill`, `terminate`, `suspend`, `resume`, `metric`, `log`.
//!   Several may run: `world.controller()` again, or through a proxy of its own by `controller_through`. It runs without leader election
//!   unless told `.with("--leader-elect=true")`, and has the role that `sluice-controller rbac` prints, and no other.
//! * `world.proxy` stands between controllers and API server: `writes`, `count`, `exchanges`; `cut_after_write(n)` for a death between two
//!   writes (then `kill`, and `set(Mode::Pass)` before the next start); `set(Mode::Hold | Mode::Cut)`; `answer` with an error;
//!   `expire_watches` with 410; `quiet` waits until nothing is written any more.
//! * `world.kubelet` makes pods run and Ready: `set("lb-svc-web", Conduct::Unready)`, `Conduct::Pending`, `keep_deleted_pods`.
//! * `world.kube_ovn(Version::V1_16, &[&network])` takes over Subnets as Kube-OVN does.
//! * `world::test_with_own_servers` where the API server itself is stopped: `world.servers.stop_api_server()`. `servers.audited(user)` has
//!   what was asked of the API server, in the words of roles.
//! * `containers::Node` runs the pods that the chart makes, as processes with the arguments and the account that they name; `helm::Helm` is Helm.
//!
//! A test that panics prints the namespace's objects, Events, the last requests and the controllers' logs.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

mod acceptance;
mod addresses;
mod chart;
mod children;
mod cleanup;
mod edits;
mod faults;
mod harness;
mod lb_svc;
mod leftovers;
mod played;
mod policy;
mod release;
mod reports;
mod role;
mod seed;
mod selection;
mod status;
mod upkeep;
mod validation;
mod writes;
