//! `check`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::output::{self, lines, table};
use crate::config::{self, Config, Service, Vip};

/// Check a gateway file: print what it asks for, or every fault with line, field and fix.
///
/// Exit code 0: the file is good; 1: it is not, and a running gateway would refuse it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sluice-gateway check gateway.yaml
  kubectl get configmap lb-svc-web -o jsonpath='{.data.gateway\\.yaml}' > /tmp/g.yaml && sluice-gateway check /tmp/g.yaml")]
pub struct Check {
    /// The gateway file.
    file: PathBuf,
}

impl Check {
    pub fn execute(self) -> Result<ExitCode> {
        match config::read(&self.file) {
            Ok(config) => {
                output::print(&summary(&config))?;
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => {
                eprintln!("{error}");
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

/// What the file asks for: a table of service ports, and the gateway's settings in one line.
fn summary(config: &Config) -> String {
    let mut ports = table(&["SERVICE", "VIP", "PORT", "TARGET", "ROUTER", "CLIENTS"]);
    for service in &config.services {
        for vip in &service.vips {
            for port in &service.ports {
                ports.add_row([
                    service.name.clone(),
                    vip.address.to_string(),
                    format!("{}/{}", port.port, port.protocol.name()),
                    targets(service, vip, port.target_port),
                    vip.gateway.map_or_else(|| "none".to_owned(), |router| router.to_string()),
                    clients(service, vip),
                ]);
            }
        }
    }
    let gateway = &config.gateway;
    format!(
        "{}\nexternal interface {}, cluster interface {}, table {}, {} flows per family, admin port {}\nThe file is good.\n",
        lines(ports),
        gateway.external_interface,
        gateway.cluster_interface,
        gateway.table,
        gateway.max_flows,
        gateway.admin_port,
    )
}

fn targets(service: &Service, vip: &Vip, port: u16) -> String {
    let same_family =
        service.targets.iter().filter(|target| target.is_ipv4() == vip.address.addr().is_ipv4());
    output::joined(same_family.map(|target| std::net::SocketAddr::new(*target, port)), "none: refused")
}

fn clients(service: &Service, vip: &Vip) -> String {
    if service.source_ranges.is_empty() {
        return "all".to_owned();
    }
    let v4 = vip.address.addr().is_ipv4();
    output::joined(
        service.source_ranges.iter().filter(|range| range.addr().is_ipv4() == v4),
        "none of this family",
    )
}
