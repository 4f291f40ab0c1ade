//! Who gives a Service its addresses.

use std::time::Duration;

/// How long a pod that a node was chosen for may be without an address before Kube-OVN is taken to give it none.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which way Kube-OVN is asked for addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum KubeOvnMode {
    /// As the network and the pods show that this Kube-OVN works.
    #[default]
    Auto,
    /// By the annotations of the gateway pods.
    Pod,
    /// By `Vip` objects.
    Vip,
}

/// Who gives the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Sluice.
    Own,
    /// Kube-OVN, to the gateway pod.
    KubeOvnPod,
    /// Kube-OVN, to a `Vip` object.
    KubeOvnVip,
}

/// What speaks for one or the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence {
    /// Kube-OVN manages the Subnet.
    pub kube_ovns: bool,
    /// What the administrator says.
    pub mode: KubeOvnMode,
    /// The Service has a Vip of the Subnet.
    pub has_vip: bool,
    /// The network's configuration leaves addresses to Kube-OVN.
    pub network_asks_kube_ovn: bool,
    /// Kube-OVN has given a pod of the Service an address of the Subnet, or refused it one.
    pub pod_answered: bool,
    /// For how long a pod with a node has been seen without an answer.
    pub pod_unanswered: Option<Duration>,
}

/// Judges by the strongest evidence. An address is in a Vip, and would be another without it: a Vip decides before the administrator does.
pub fn backend(evidence: &Evidence) -> Backend {
    let unanswered = evidence.pod_unanswered.is_some_and(|waited| waited >= PATIENCE);
    match evidence.mode {
        _ if !evidence.kube_ovns => Backend::Own,
        _ if evidence.has_vip => Backend::KubeOvnVip,
        KubeOvnMode::Pod => Backend::KubeOvnPod,
        KubeOvnMode::Vip => Backend::KubeOvnVip,
        KubeOvnMode::Auto if evidence.network_asks_kube_ovn || evidence.pod_answered => Backend::KubeOvnPod,
        KubeOvnMode::Auto if unanswered => Backend::KubeOvnVip,
        // The pod is still to be made, or given its time.
        KubeOvnMode::Auto => Backend::KubeOvnPod,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_evidence_decides() {
        let none = Evidence { kube_ovns: true, ..Evidence::default() };
        let (short, long) = (Some(PATIENCE / 2), Some(PATIENCE));
        let pod = Evidence { mode: KubeOvnMode::Pod, ..none };
        let vip = Evidence { mode: KubeOvnMode::Vip, ..none };
        let cases = [
            ("another's Subnet", Evidence { kube_ovns: false, has_vip: true, ..vip }, Backend::Own),
            ("nothing known yet", none, Backend::KubeOvnPod),
            ("a new pod", Evidence { pod_unanswered: short, ..none }, Backend::KubeOvnPod),
            ("a pod without an answer", Evidence { pod_unanswered: long, ..none }, Backend::KubeOvnVip),
            (
                "a new pod after one that was answered",
                Evidence { pod_answered: true, pod_unanswered: long, ..none },
                Backend::KubeOvnPod,
            ),
            (
                "the network says so, however long it takes",
                Evidence { network_asks_kube_ovn: true, pod_unanswered: long, ..none },
                Backend::KubeOvnPod,
            ),
            ("the flag", Evidence { pod_unanswered: long, ..pod }, Backend::KubeOvnPod),
            (
                "the other flag",
                Evidence { network_asks_kube_ovn: true, pod_answered: true, ..vip },
                Backend::KubeOvnVip,
            ),
            (
                "a Vip, before all else",
                Evidence { has_vip: true, network_asks_kube_ovn: true, pod_answered: true, ..pod },
                Backend::KubeOvnVip,
            ),
        ];
        for (case, evidence, expected) in cases {
            assert_eq!(backend(&evidence), expected, "{case}");
        }
    }
}
