//! One gateway, one service in both families, real clients and servers.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use aya::programs::tc::TcAttachType;
use aya::programs::{SchedClassifier, loaded_programs};
use nix::sys::signal::Signal;
use sluice_tests::addresses::Family;
use sluice_tests::netns::Netns;
use sluice_tests::topology::{Place, Topology};
use sluice_tests::wait;

use crate::exchange::{self, Server};
use crate::gateway::{self, Gateway, OTHER_PORT, SAME_PORT, TARGET_PORT};
use crate::report::Report;

/// How programs are attached on this kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// TCX links, Linux 6.6 and later.
    Tcx,
    /// The `clsact` qdisc with `cls_bpf` filters.
    Clsact,
}

/// Runs the case.
pub fn run(hook: Hook) -> ExitCode {
    let mut report = Report::default();
    match prepare() {
        Ok(mut world) => world.test(&mut report, hook),
        Err(error) => report.case("set_up", || Err(error)),
    }
    report.finish()
}

struct World {
    topology: Topology,
    backends: Vec<Backend>,
    file: String,
}

/// One port of the VIP of one family, and the server behind it.
struct Backend {
    family: Family,
    port: u16,
    server: Server,
}

fn prepare() -> Result<World> {
    let topology = Topology::builder().unproxied().build()?;
    let [host, _] = &topology.backends;
    let mut backends = Vec::new();
    for family in Family::ALL {
        for (port, target) in [(SAME_PORT, SAME_PORT), (OTHER_PORT, TARGET_PORT)] {
            let server = Server::start(host, SocketAddr::new(family.plan().cluster_ip, target))?;
            backends.push(Backend { family, port, server });
        }
    }
    Ok(World { topology, backends, file: gateway::write_file()? })
}

impl World {
    fn test(&mut self, report: &mut Report, hook: Hook) {
        let mut running = None;
        let pod = &self.topology.pod;
        report.case("gateway_becomes_ready", || {
            running = Some(Gateway::start(pod, &self.file, 1)?);
            Ok(())
        });
        let Some(gateway) = running else { return };
        report.case("programs_are_attached_by_the_expected_hook", || attached(pod, hook));
        self.exchanges(report, "served");

        report.case("killing_the_loader_leaves_the_data_path", || {
            gateway.end(Signal::SIGKILL)?;
            attached(pod, hook)
        });
        self.exchanges(report, "without_loader");
        let mut restarted = None;
        report.case("loader_starts_again", || {
            restarted = Some(Gateway::start(pod, &self.file, 2)?);
            attached(pod, hook)
        });
        self.exchanges(report, "restarted");
        report.case("loader_ends_on_sigterm", || {
            let status = restarted.take().context("it was not started")?.end(Signal::SIGTERM)?;
            ensure!(status.success(), "it ended with {status}");
            Ok(())
        });
        report.case("cleanup_removes_every_program", || {
            let output = gateway::command(pod, &["cleanup"]).output().context("starting it")?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "cleanup ended with {}: {said}", output.status);
            // The kernel frees programs in the background.
            wait::until("no program is left in the kernel", wait::PATIENCE, || {
                Ok(names()?.is_empty().then_some(()))
            })
            .with_context(|| format!("programs left in the kernel: {:?}", names()))
        });
    }

    fn exchanges(&self, report: &mut Report, stage: &str) {
        for Backend { family, port, server } in &self.backends {
            let plan = family.plan();
            let vip = SocketAddr::new(plan.vip, *port);
            for place in Place::ALL {
                let client = self.topology.client_at(place);
                let case = format!("{stage}::{}::{}::port_{port}", place.name(), family.name());
                report.case(&format!("{case}::tcp"), || {
                    exchange::tcp(client, vip)?;
                    server.saw_only(plan.pod)
                });
                report.case(&format!("{case}::udp"), || {
                    exchange::udp(client, vip)?;
                    server.saw_only(plan.pod)
                });
            }
        }
    }
}

/// Asserts that the ingress of both devices has a program on `hook`, and none on the other.
fn attached(pod: &Netns, hook: Hook) -> Result<()> {
    for device in ["net1", "eth0"] {
        // Kernels without TCX refuse the query.
        let tcx = pod.run(|| Ok(SchedClassifier::query_tcx(device, TcAttachType::Ingress)))?;
        let tcx = tcx.map(|(_, programs)| programs.len()).unwrap_or_default();
        let filters = pod.output("tc", &["filter", "show", "dev", device, "ingress"])?;
        let clsact = filters.matches(" bpf ").filter(|_| filters.contains("direct-action")).count();
        let (expected, other) = match hook {
            Hook::Tcx => (tcx, clsact),
            Hook::Clsact => (clsact, tcx),
        };
        ensure!(
            expected > 0 && other == 0,
            "{device} has {tcx} programs by TCX, and these filters:\n{filters}"
        );
    }
    Ok(())
}

/// The names of all programs in this kernel, which are Sluice's: nothing else runs here.
fn names() -> Result<Vec<String>> {
    loaded_programs()
        .map(|program| {
            let program = program.context("reading the kernel's programs")?;
            Ok(program.name_as_str().unwrap_or("?").to_owned())
        })
        .collect()
}
