//! `sluice-gateway`, the loader that runs in the gateway pod.

use std::process::ExitCode;

fn main() -> ExitCode {
    sluice_gateway::cli::main()
}
