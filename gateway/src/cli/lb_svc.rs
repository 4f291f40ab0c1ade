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
    let Some(asked) = asked(arguments) else {
        bail!(
            "there is no shell in sluice-gateway's image: `bash {SCRIPT} OPERATION RULE...` is all that it does. VpcNatGateways of \
             Kube-OVN need Kube-OVN's own image; in a gateway, `kubectl exec POD -- /sluice-gateway status` tells what is served"
        );
    };
    let operation = Operation::parse(&asked)?;
    lb_svc::perform(&Place::from_environment(), &operation)?;
    println!("{}", asked.join(" "));
    Ok(ExitCode::SUCCESS)
}

/// The operation and its rules, if the script is asked for: by its name and words of their own, or, as by the released Kube-OVN
/// (1.16.2, `pkg/controller/service_lb.go`), by `-c` and one line for a shell, which begins with `bash` once more and has nothing in it
/// that a shell would read otherwise than as words.
fn asked(arguments: &[String]) -> Option<Vec<String>> {
    let words: Vec<&str> = match arguments {
        [option, line] if option == "-c" => line.split_ascii_whitespace().collect(),
        words => std::iter::once("bash").chain(words.iter().map(String::as_str)).collect(),
    };
    match words[..] {
        ["bash", SCRIPT, ref rest @ ..] => Some(rest.iter().map(|&word| word.to_owned()).collect()),
        _ => None,
    }
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
        for line in ["bash", "/bin/bash -c", "/bin/bash -c ls", "bash /kube-ovn/nat-gateway.sh init"] {
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
    fn the_script_is_asked_for_in_words_or_in_a_line() {
        let asked =
            |arguments: &[&str]| asked(&arguments.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        let rule = "192.0.2.1,80,tcp,10.96.0.1,80,10.16.0.1";
        let expected = Some(vec!["dnat-add".to_owned(), rule.to_owned()]);
        assert_eq!(asked(&[SCRIPT, "dnat-add", rule]), expected);
        assert_eq!(asked(&["-c", &format!("bash {SCRIPT} dnat-add {rule}")]), expected);
        // An operation without rules has a blank behind it.
        assert_eq!(asked(&["-c", &format!("bash {SCRIPT} init ")]), Some(vec!["init".to_owned()]));
        for line in ["", "ls", SCRIPT, "bash /kube-ovn/nat-gateway.sh init", "sh /kube-ovn/lb-svc.sh init"] {
            assert_eq!(asked(&["-c", line]), None, "{line}");
        }
        assert_eq!(asked(&["-c", &format!("bash {SCRIPT} init"), "more"]), None);
        assert_eq!(asked(&["-x", SCRIPT, "init"]), None);
    }

    #[test]
    fn under_its_own_name_it_is_itself() {
        for name in ["sluice-gateway", "/sluice-gateway", "./target/debug/sluice-gateway"] {
            assert_eq!(refusal(&format!("{name} bash")), None);
        }
    }
}
