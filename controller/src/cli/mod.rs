//! The commands, one file each.

mod cluster;
mod crds;
mod documents;
mod election;
mod gateway_pods;
mod rbac;
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
            Command::Render(render) => render.run(),
            Command::Crds(crds) => crds.run(),
            Command::Rbac(rbac) => rbac.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }
}
