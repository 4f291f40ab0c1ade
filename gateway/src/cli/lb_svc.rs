//! Other names of the program: what Kube-OVN's controller runs in a gateway pod that it has made itself.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::lb_svc::{self, Operation, Place};
use crate::log::{self, LogFormat};

/// The script that stands for the operations. There is none in the image: its name is all that is looked at.
const SCRIPT: &str = "/kube-ovn/lb-svc.sh";

/// What to do under the name by which the program was called; `None`: it is its own.
pub fn called_as(mut arguments: impl Iterator<Item = OsString>) -> Option<Result<ExitCode>> {
    let name = arguments.next()?;
    let rest = || arguments.map(|argument| argument.to_string_lossy().into_owned()).collect::<Vec<_>>();
    match Path::new(&name).file_name()?.to_str()? {
        "sleep" => Some(sleep(&rest())),
        "bash" => Some(bash(&rest())),
        _ => None,
    }
}

/// The pod's only container is told to sleep for ever. It serves meanwhile.
fn sleep(arguments: &[String]) -> Result<ExitCode> {
    if arguments != ["infinity"] {
        bail!(
            "this is sluice-gateway's image: `sleep infinity` serves what Kube-OVN's controller asks for; there is no other sleep in it"
        );
    }
    log::start(LogFormat::default(), &std::env::var("SLUICE_LOG").unwrap_or_else(|_| "info".to_owned()))?;
    lb_svc::serve(&Place::from_environment())?;
    Ok(ExitCode::SUCCESS)
}

/// Standard error stays empty where all goes well: Kube-OVN takes whatever stands there for a failure.
fn bash(arguments: &[String]) -> Result<ExitCode> {
    let Some((SCRIPT, rest)) = arguments.split_first().map(|(script, rest)| (script.as_str(), rest)) else {
        bail!(
            "there is no shell in sluice-gateway's image: `bash {SCRIPT} OPERATION RULE...` is all that it does. VpcNatGateways of \
             Kube-OVN need Kube-OVN's own image; in a gateway, `kubectl exec POD -- /sluice-gateway status` tells what is served"
        );
    };
    let operation = Operation::parse(rest)?;
    lb_svc::perform(&Place::from_environment(), &operation)?;
    println!("{}", rest.join(" "));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(line: &str) -> Option<String> {
        let called = called_as(line.split(' ').map(OsString::from))?;
        Some(called.unwrap_err().to_string())
    }

    #[test]
    fn there_is_no_shell_and_no_other_sleep() {
        for line in ["bash", "/bin/bash -c ls", "bash /kube-ovn/nat-gateway.sh init"] {
            let refusal = refusal(line).unwrap();
            assert!(
                refusal.contains("/kube-ovn/lb-svc.sh") && refusal.contains("VpcNatGateways"),
                "{refusal}"
            );
        }
        assert!(refusal("/usr/bin/sleep 5").unwrap().contains("sleep infinity"));
        assert!(refusal("bash /kube-ovn/lb-svc.sh eip-del x").unwrap().contains("`eip-del` is none"));
    }

    #[test]
    fn under_its_own_name_it_is_itself() {
        for name in ["sluice-gateway", "/sluice-gateway", "./target/debug/sluice-gateway"] {
            assert_eq!(refusal(&format!("{name} bash")), None);
        }
    }
}
