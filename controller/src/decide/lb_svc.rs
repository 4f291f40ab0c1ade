//! Whether Kube-OVN's own load balancer is on, from the command lines of its controller.

use k8s_openapi::api::core::v1::{Container, PodSpec};

/// The option of Kube-OVN's controller, without its dashes.
const OPTION: &str = "enable-lb-svc";

/// Whether a pod of `spec` runs Kube-OVN's controller with its own load balancer on.
pub fn lb_svc_enabled(spec: &PodSpec) -> bool {
    spec.containers.iter().any(|container| words(container).iter().fold(false, |on, word| judge(word, on)))
}

/// What `word` makes of the option, which was `on` before it: the last one wins.
fn judge(word: &str, on: bool) -> bool {
    let Some(option) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else { return on };
    match option.split_once('=') {
        None if option == OPTION => true,
        Some((OPTION, value)) => match value {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            // Kube-OVN's controller does not start with it.
            _ => on,
        },
        _ => on,
    }
}

/// The command line, word by word. What a shell is given as one text is split where the shell would in plain cases.
fn words(container: &Container) -> Vec<String> {
    let texts = container.command.iter().flatten().chain(container.args.iter().flatten());
    let texts = texts.map(|text| expanded(text, container));
    texts.flat_map(|text| split(&text)).collect()
}

fn split(text: &str) -> Vec<String> {
    let ends = |character: char| character.is_whitespace() || matches!(character, ';' | '&' | '|' | '\\');
    // Quotes around a word, or around its value.
    let bare = |word: &str| word.replace(['"', '\''], "");
    text.split(ends).map(bare).filter(|word| !word.is_empty()).collect()
}

/// `text` with `$(NAME)` as the kubelet replaces it, where the pod itself says the value.
fn expanded(text: &str, container: &Container) -> String {
    let mut text = text.to_owned();
    for variable in container.env.iter().flatten() {
        if let Some(value) = &variable.value {
            text = text.replace(&format!("$({})", variable.name), value);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::EnvVar;

    use super::*;

    fn enabled(command: &[&str], args: &[&str]) -> bool {
        let strings = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect());
        let env = EnvVar { name: "LB_SVC".into(), value: Some("true".into()), value_from: None };
        let container = Container {
            command: strings(command),
            args: strings(args),
            env: Some(vec![env]),
            ..Container::default()
        };
        let other = Container { args: strings(&["--enable-lb=true"]), ..Container::default() };
        lb_svc_enabled(&PodSpec { containers: vec![other, container], ..PodSpec::default() })
    }

    #[test]
    fn the_last_one_on_a_command_line_counts() {
        let start = "/kube-ovn/start-controller.sh";
        let cases: [(&[&str], bool); 15] = [
            (&[start], false),
            (&[start, "--default-cidr=10.16.0.0/16", "--enable-lb-svc=true"], true),
            (&[start, "--enable-lb-svc"], true),
            (&[start, "-enable-lb-svc=1"], true),
            (&[start, "--enable-lb-svc=TRUE"], true),
            (&[start, "--enable-lb-svc=false"], false),
            (&[start, "--enable-lb-svc=0"], false),
            (&[start, "--enable-lb-svc=true", "--enable-lb-svc=f"], false),
            (&[start, "--enable-lb-svc=f", "--enable-lb-svc"], true),
            // A value of its own is no value of a boolean option.
            (&[start, "--enable-lb-svc", "false"], true),
            (&[start, "--enable-lb=true", "--enable-lb-svc-x=true", "enable-lb-svc=true"], false),
            (&[start, "--enable-lb-svc=$(LB_SVC)"], true),
            (&[start, "--enable-lb-svc=$(OTHER)"], false),
            (&[start, "--enable-lb-svc=yes"], false),
            (&[start, "--image=x --enable-lb-svc=true"], true),
        ];
        for (args, expected) in cases {
            assert_eq!(enabled(&[], args), expected, "args {args:?}");
            assert_eq!(enabled(args, &[]), expected, "command {args:?}");
        }
    }

    #[test]
    fn shell_texts_and_both_arrays_are_read() {
        let shell = |script: &str| enabled(&["sh", "-c"], &[script]);
        assert!(shell("exec ./kube-ovn-controller --enable-lb=true \\\n  --enable-lb-svc=true"));
        assert!(shell("./kube-ovn-controller '--enable-lb-svc=true'; sleep 1"));
        assert!(shell("./kube-ovn-controller --enable-lb-svc=\"true\"&"));
        assert!(!shell("./kube-ovn-controller --enable-lb-svc=true --enable-lb-svc=false"));
        assert!(!enabled(&["./kube-ovn-controller", "--enable-lb-svc=true"], &["--enable-lb-svc=false"]));
        assert!(!lb_svc_enabled(&PodSpec::default()));
    }
}
