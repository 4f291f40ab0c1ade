//! The commands, one file each.

mod documents;
mod render;

/// Gateways for Kubernetes Services of type LoadBalancer.
#[derive(Debug, clap::Parser)]
#[command(name = "sluice-controller", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Render(render::Render),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// What kept the command from its work, for people to read.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Render(render) => render.run(),
        }
    }
}
