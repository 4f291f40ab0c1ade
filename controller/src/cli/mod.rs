//! The commands, one file each.

mod allocator;
mod cluster;
mod crds;
mod documents;
mod election;
mod gateway_pods;
mod logging;
mod rbac;
mod release;
mod render;
mod run;
mod time;

/// Gateways for Kubernetes Services of type LoadBalancer.
#[derive(Debug, clap::Parser)]
#[command(name = "sluice-controller", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Run(Box<run::Run>),
    Release(release::Release),
    Render(render::Render),
    Crds(crds::Crds),
    Rbac(rbac::Rbac),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// What kept the command from its work, for people to read.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Run(run) => run.run(),
            Command::Release(release) => release.run(),
            Command::Render(render) => render.run(),
            Command::Crds(crds) => crds.run(),
            Command::Rbac(rbac) => rbac.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    /// A variable that a template has left empty must not become a namespace, or a Secret, without a name.
    #[test]
    fn names_that_are_empty_are_refused_by_the_name_of_their_flag() {
        for (command, flag, value) in [
            ("run", "--namespace", ""),
            ("run", "--lease-namespace", ""),
            ("run", "--gateway-image-pull-secrets", "registry,"),
            ("run", "--gateway-priority-class", ""),
            ("release", "--namespace", ""),
            ("release", "--stop", ""),
        ] {
            let refusal = Cli::try_parse_from(["sluice-controller", command, flag, value]).unwrap_err();
            assert!(refusal.to_string().contains(flag), "{command} {flag} {value:?}: {refusal}");
        }
    }

    #[test]
    fn every_flag_of_run_is_documented_with_its_variable_and_default() {
        let documentation = include_str!("../../../docs/controller.md");
        let command = Cli::command();
        let run = command.find_subcommand("run").unwrap();
        for flag in run.get_arguments().filter(|flag| flag.get_long().is_some_and(|long| long != "help")) {
            let variable = flag.get_env().and_then(|variable| variable.to_str()).unwrap();
            let row = format!("| `--{}` | `{variable}` | ", flag.get_long().unwrap());
            let line = documentation.lines().find(|line| line.starts_with(&row));
            let line = line.unwrap_or_else(|| panic!("docs/controller.md lacks {row}"));
            let defaults: Vec<_> =
                flag.get_default_values().iter().filter_map(|value| value.to_str()).collect();
            // What stands for nothing, and what changes with each version, is described in words.
            if let [default] = defaults.as_slice()
                && !matches!(*default, "" | "[]" | "{}")
                && !default.contains(env!("CARGO_PKG_VERSION"))
            {
                assert!(line[row.len()..].starts_with(&format!("`{default}` |")), "{line}: not {default}");
            }
        }
    }
}
