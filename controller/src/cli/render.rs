//! `sluice-controller render`: the gateway files for Services in manifests, without a cluster.

use std::io::{Read as _, Write as _};
use std::net::IpAddr;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Service;
use sluice_gateway::config::file::File;

use super::documents::Documents;
use crate::api::{Provider, describe_service};
use crate::desired::Defaults;
use crate::ipam::{Taken, requested};
use crate::render::{Surroundings, render};
use crate::select::{Selection, select};

/// Print the gateway file of each LoadBalancer Service in manifests
///
/// The manifests hold Services, their NetworkAttachmentDefinitions and Subnets; other objects are passed over. Addresses are given as in
/// a cluster where nothing else holds any.
#[derive(Debug, clap::Args)]
pub(super) struct Render {
    /// Files of YAML documents; `-` is standard input
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true, num_args = 1..)]
    files: Vec<String>,
    /// ClusterIP of the one Service in the files, where `spec.clusterIP` is missing; one for each family
    #[arg(long, value_name = "IP")]
    cluster_ip: Vec<IpAddr>,
    /// Address that the one Service in the files has been given; one for each family
    #[arg(long, value_name = "IP")]
    address: Vec<IpAddr>,
    /// Form of the output; several JSON files are printed one a line
    #[arg(short, long, value_enum, default_value_t = Form::Yaml)]
    output: Form,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Form {
    Yaml,
    Json,
}

impl Render {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (text, warnings) = self.render()?;
        for warning in warnings {
            eprintln!("warning: {warning}");
        }
        std::io::stdout().write_all(text.as_bytes()).context("cannot write the files to standard output")
    }

    /// The output, and warnings.
    fn render(&self) -> anyhow::Result<(String, Vec<String>)> {
        let mut documents = Documents::default();
        for file in &self.files {
            documents.add(file, &read(file)?)?;
        }
        let (files, warnings) = self.files_of(documents)?;
        Ok((self.output.write(&files)?, warnings))
    }

    /// The file of each Service that is ours, or every refusal at once; and warnings.
    fn files_of(&self, documents: Documents) -> anyhow::Result<(Vec<File>, Vec<String>)> {
        let mut refusals = Vec::new();
        let mut warnings = Vec::new();
        let mut ours: Vec<(Service, Provider)> = Vec::new();
        for service in documents.services {
            match select(&service) {
                Ok(Selection::Ours(provider)) => ours.push((service, provider)),
                Ok(Selection::NotOurs(reason)) => {
                    warnings.push(format!("{}: passed over: {reason}", describe_service(&service)));
                }
                Err(refusal) => refusals.push(refusal.to_string()),
            }
        }
        if ours.is_empty() && refusals.is_empty() {
            let reasons: String = warnings.iter().map(|warning| format!("\n  {warning}")).collect();
            bail!("no Service for Sluice in the files{reasons}");
        }
        self.complete(&mut ours)?;
        let mut taken = requests(&ours);
        let mut files = Vec::new();
        for (service, provider) in &ours {
            let around = Surroundings {
                attachments: &documents.attachments,
                subnets: &documents.subnets,
                taken: &taken,
            };
            match render(service, provider, &Defaults::default(), &self.address, &around) {
                Ok(rendered) => {
                    let holder = describe_service(service);
                    taken.extend(rendered.vips.into_iter().map(|vip| (vip, holder.clone())));
                    warnings.extend(rendered.warnings.iter().map(ToString::to_string));
                    files.push(rendered.file);
                }
                Err(refusal) => refusals.push(refusal.to_string()),
            }
        }
        if refusals.is_empty() { Ok((files, warnings)) } else { bail!("{}", refusals.join("\nerror: ")) }
    }

    /// Fills in what only the API server knows.
    fn complete(&self, ours: &mut [(Service, Provider)]) -> anyhow::Result<()> {
        if self.cluster_ip.is_empty() && self.address.is_empty() {
            return Ok(());
        }
        let [(service, _)] = ours else {
            bail!("--cluster-ip and --address are for one Service, and the files have {}", ours.len());
        };
        if self.cluster_ip.is_empty() {
            return Ok(());
        }
        let object = describe_service(service);
        let spec = service.spec.get_or_insert_default();
        let known = spec.cluster_ip.iter().chain(spec.cluster_ips.iter().flatten());
        if let Some(known) = known.into_iter().find(|known| !known.is_empty()) {
            bail!("{object}: spec.clusterIP: already {known}: leave out --cluster-ip");
        }
        spec.cluster_ips = Some(self.cluster_ip.iter().map(IpAddr::to_string).collect());
        Ok(())
    }
}

/// What Services ask for, so that no other gets it as the lowest free address. The first who asks holds it.
fn requests(services: &[(Service, Provider)]) -> Taken {
    let mut taken = Taken::new();
    for (service, _) in services {
        // A request that cannot be read is refused when its Service is rendered.
        for address in requested(service).unwrap_or_default() {
            taken.entry(address).or_insert_with(|| describe_service(service));
        }
    }
    taken
}

impl Form {
    fn write(self, files: &[File]) -> anyhow::Result<String> {
        let written = files.iter().map(|file| match self {
            Self::Yaml => file.to_yaml().context("cannot write a gateway file as YAML"),
            Self::Json => serde_json::to_string(file)
                .map(|text| text + "\n")
                .context("cannot write a gateway file as JSON"),
        });
        let separator = if matches!(self, Self::Yaml) { "---\n" } else { "" };
        Ok(written.collect::<anyhow::Result<Vec<_>>>()?.join(separator))
    }
}

fn read(file: &str) -> anyhow::Result<String> {
    if file == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        render: Render,
    }

    /// Renders the seed's network and Subnet with the Service `services`, under `arguments`.
    fn rendered(services: &[&str], arguments: &[&str]) -> anyhow::Result<(String, Vec<String>)> {
        let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/seed");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("services.yaml");
        std::fs::write(&path, services.join("---\n")).unwrap();
        let files = [
            "render".to_owned(),
            "-f".to_owned(),
            format!("{examples}/network-attachment-definition.yaml"),
            format!("{examples}/subnet.yaml"),
            path.display().to_string(),
        ];
        let arguments = files.into_iter().chain(arguments.iter().map(|argument| (*argument).to_owned()));
        Command::try_parse_from(arguments).unwrap().render.render()
    }

    fn seed() -> &'static str {
        include_str!("../../../docs/examples/seed/service.yaml")
    }

    fn service(name: &str, cluster_ip: &str, request: &str) -> String {
        let named = seed()
            .replace("test-service", name)
            .replace("  type:", &format!("  clusterIP: {cluster_ip}\n  type:"));
        named.replace("loadBalancerIP: 172.18.0.18 ", &format!("loadBalancerIP: '{request}' "))
    }

    const SEED: [&str; 2] = ["--cluster-ip", "10.109.201.193"];

    #[test]
    fn the_seeds_manifests_as_yaml_and_json() {
        let expected = serde_json::json!({
            "version": 1,
            "services": [{
                "name": "default/test-service",
                "vips": [{"address": "172.18.0.18/16", "gateway": "172.18.0.1"}],
                "targets": ["10.109.201.193"],
                "ports": [{"name": "test", "protocol": "TCP", "port": 80, "targetPort": 80}],
            }],
        });
        let (yaml, warnings) = rendered(&[seed()], &SEED).unwrap();
        assert_eq!(serde_saphyr::from_str::<serde_json::Value>(&yaml).unwrap(), expected);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let (json, _) = rendered(&[seed()], &[&SEED[..], &["-o", "json"]].concat()).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), expected);
    }

    #[test]
    fn without_the_cluster_ip_the_error_says_how_to_give_it() {
        let error = rendered(&[seed()], &[]).unwrap_err().to_string();
        assert!(error.starts_with("Service default/test-service: spec.clusterIP: missing: "), "{error}");
        assert!(error.contains("--cluster-ip"), "{error}");
    }

    /// The VIPs in the order of the Services.
    fn vips(services: &[&str]) -> Vec<String> {
        let (text, _) = rendered(services, &[]).unwrap_or_else(|error| panic!("{error:#}"));
        let files: Vec<File> = serde_saphyr::from_multiple(&text).unwrap();
        files.into_iter().map(|file| file.services[0].vips[0].address.clone()).collect()
    }

    #[test]
    fn several_services_share_a_subnet() {
        let dynamic = service("dynamic", "10.109.0.1", "");
        let fixed = service("fixed", "10.109.0.2", "172.18.0.11");
        let another = service("another", "10.109.0.3", "");
        assert_eq!(
            vips(&[&dynamic, &fixed, &another]),
            ["172.18.0.12/16", "172.18.0.11/16", "172.18.0.13/16"]
        );

        let rival = service("rival", "10.109.0.4", "172.18.0.11");
        let error = rendered(&[&fixed, &rival, &seed().replace("80", "x")], &[]).unwrap_err();
        assert!(
            format!("{error:#}").contains("Service test-service: spec.ports[0].port: invalid type"),
            "{error:#}"
        );
        let broken = rival
            .replace("protocol: TCP", "protocol: DCCP")
            .replace("rival", "broken")
            .replace("172.18.0.11", "172.18.0.9");
        let error = rendered(&[&fixed, &rival, &broken], &[]).unwrap_err().to_string();
        assert!(
            error.contains(
                "Service default/rival: spec.loadBalancerIP: 172.18.0.11 is held by Service default/fixed"
            ),
            "{error}"
        );
        assert!(
            error.contains("Service default/broken: spec.ports[0].protocol"),
            "every refusal at once: {error}"
        );
    }

    #[test]
    fn flags_are_for_one_service_that_lacks_the_value() {
        let one = service("one", "10.109.0.1", "");
        let error = rendered(&[&one, seed()], &SEED).unwrap_err().to_string();
        assert!(error.contains("for one Service, and the files have 2"), "{error}");
        let error = rendered(&[&one], &SEED).unwrap_err().to_string();
        assert!(error.contains("already 10.109.0.1"), "{error}");
        let (text, _) = rendered(&[&one], &["--address", "172.18.0.99"]).unwrap();
        assert!(text.contains("172.18.0.99/16"), "{text}");
    }

    #[test]
    fn what_is_not_ours_is_passed_over() {
        let other = seed().replace("type: LoadBalancer", "type: ClusterIP").replace("test-service", "other");
        let unrelated = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n";
        let (text, warnings) = rendered(&[&other, unrelated, seed()], &SEED).unwrap();
        assert!(text.contains("default/test-service") && !text.contains("other"), "{text}");
        assert!(
            warnings.iter().any(|warning| warning.starts_with("Service default/other: passed over")),
            "{warnings:?}"
        );
        let error = rendered(&[&other], &[]).unwrap_err().to_string();
        assert!(
            error.contains("no Service for Sluice") && error.contains("spec.type is ClusterIP"),
            "{error}"
        );
        let error = format!("{:#}", rendered(&["a: 1\n"], &[]).unwrap_err());
        assert!(error.contains("services.yaml: document 1: not a Kubernetes object"), "{error}");
    }

    #[test]
    fn lists_are_opened() {
        let items = service("a", "10.109.0.1", "").replace('\n', "\n  ");
        let list = format!("apiVersion: v1\nkind: List\nitems:\n- {items}\n");
        assert_eq!(vips(&[&list]), ["172.18.0.11/16"]);
    }
}
