//! Runs inside a virtual machine of the `kernels` rung: as its init, and as the tests that need a whole gateway.

mod end_to_end;
mod exchange;
mod gateway;
mod init;
mod refusal;
mod report;
mod verifier;

use std::process::ExitCode;

use end_to_end::Hook;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        return init::run();
    }
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["end-to-end", "tcx"] => end_to_end::run(Hook::Tcx),
        ["end-to-end", "clsact"] => end_to_end::run(Hook::Clsact),
        ["verifier"] => verifier::run(),
        ["refusal"] => refusal::run(),
        _ => {
            eprintln!("sluice-guest runs inside the virtual machines of `cargo xtask test kernels`");
            ExitCode::FAILURE
        }
    }
}
