//! The gateway pod.

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
    EnvVarSource, ExecAction, HostPathVolumeSource, LocalObjectReference, ObjectFieldSelector,
    PodSecurityContext, PodSpec, PodTemplateSpec, Probe, SeccompProfile, SecurityContext, Toleration, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use sluice_gateway::config::Gateway;

use super::{Inputs, Settings, annotations, metadata, name, resources};
use crate::Refusal;

/// The container's name, as the original's.
const CONTAINER: &str = "lb-svc";
/// The one program in the image.
const PROGRAM: &str = "/sluice-gateway";
/// All that the gateway needs beyond an ordinary container: its network, raw sockets for announcements, maps and programs.
const CAPABILITIES: [&str; 4] = ["BPF", "NET_ADMIN", "NET_RAW", "PERFMON"];
/// Folder of the gateway's file. The whole folder: a mount of the file alone (`subPath`) would never be refreshed.
const CONFIG_DIR: &str = "/etc/sluice";
/// Socket, lock, and the copy of the last good file, which outlives the container.
const RUNTIME_DIR: &str = "/run/sluice";
/// Largest gateway file twice over, and the socket.
const RUNTIME_SIZE: &str = "4Mi";
/// The node's BPF file system: what is pinned there outlives the container.
const BPFFS: &str = "/sys/fs/bpf";
/// The gateway ends within milliseconds and has nothing to drain: connections live in the kernel and end with the pod's network.
/// As long as the pod hangs, no other may serve the VIP.
const GRACE_SECONDS: i64 = 5;

/// The pod template.
///
/// # Errors
/// Resources that cannot be.
pub(super) fn template(inputs: &Inputs<'_>) -> Result<PodTemplateSpec, Refusal> {
    Ok(PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(metadata::labels(inputs.service)),
            annotations: Some(annotations::of_template(inputs)),
            ..ObjectMeta::default()
        }),
        spec: Some(spec(inputs)?),
    })
}

fn spec(inputs: &Inputs<'_>) -> Result<PodSpec, Refusal> {
    let settings = inputs.settings;
    Ok(PodSpec {
        containers: vec![container(inputs)?],
        volumes: Some(volumes(inputs)),
        image_pull_secrets: Some(pull_secrets(settings)).filter(|secrets| !secrets.is_empty()),
        node_selector: Some(settings.node_selector.clone()).filter(|selector| !selector.is_empty()),
        tolerations: Some(tolerations(settings)),
        priority_class_name: settings.priority_class.clone(),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        security_context: Some(PodSecurityContext {
            seccomp_profile: Some(SeccompProfile {
                type_: settings.seccomp.as_str().to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    })
}

fn container(inputs: &Inputs<'_>) -> Result<Container, Refusal> {
    let settings = inputs.settings;
    let uid = ObjectFieldSelector { field_path: "metadata.uid".to_owned(), ..ObjectFieldSelector::default() };
    Ok(Container {
        name: CONTAINER.to_owned(),
        image: Some(settings.image.clone()),
        image_pull_policy: settings.image_pull_policy.clone(),
        command: Some(vec![PROGRAM.to_owned()]),
        args: Some(vec!["run".to_owned()]),
        // Names the folder of pins: a restarted container finds it again, another pod has another.
        env: Some(vec![EnvVar {
            name: "SLUICE_GATEWAY_ID".to_owned(),
            value_from: Some(EnvVarSource { field_ref: Some(uid), ..EnvVarSource::default() }),
            ..EnvVar::default()
        }]),
        // For those who look for metrics: they find pods by the name of a port.
        ports: Some(vec![ContainerPort {
            name: Some("admin".to_owned()),
            container_port: Gateway::default().admin_port.into(),
            ..ContainerPort::default()
        }]),
        resources: Some(resources::resources(inputs)?),
        security_context: Some(SecurityContext {
            // Capabilities that are added are in force for root only.
            run_as_user: Some(0),
            privileged: Some(false),
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: Some(CAPABILITIES.map(str::to_owned).to_vec()),
            }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts()),
        // Alive after half a second; a slow node may take a minute.
        startup_probe: Some(probe("live", 1, 60, 5)),
        readiness_probe: Some(probe("ready", 2, 2, 5)),
        // A restart costs no packet. The gateway itself calls a loop dead that has not come round for a minute.
        liveness_probe: Some(probe("live", 10, 3, 10)),
        ..Container::default()
    })
}

fn pull_secrets(settings: &Settings) -> Vec<LocalObjectReference> {
    settings.image_pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect()
}

/// A probe by the gateway's own command: the kubelet cannot reach every pod's network, and the command reaches the daemon by its socket.
fn probe(command: &str, period_seconds: i32, failure_threshold: i32, timeout_seconds: i32) -> Probe {
    Probe {
        exec: Some(ExecAction { command: Some(vec![PROGRAM.to_owned(), command.to_owned()]) }),
        period_seconds: Some(period_seconds),
        failure_threshold: Some(failure_threshold),
        timeout_seconds: Some(timeout_seconds),
        ..Probe::default()
    }
}

fn volumes(inputs: &Inputs<'_>) -> Vec<Volume> {
    vec![
        Volume {
            name: "config".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: name(inputs.service),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: "run".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                medium: Some("Memory".to_owned()),
                size_limit: Some(Quantity(RUNTIME_SIZE.to_owned())),
            }),
            ..Volume::default()
        },
        Volume {
            name: "bpffs".to_owned(),
            // A node without the folder has no BPF: the pod's Event says that it cannot be mounted.
            host_path: Some(HostPathVolumeSource {
                path: BPFFS.to_owned(),
                type_: Some("Directory".to_owned()),
            }),
            ..Volume::default()
        },
    ]
}

fn mounts() -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    };
    vec![
        VolumeMount { read_only: Some(true), ..mount("config", CONFIG_DIR) },
        mount("run", RUNTIME_DIR),
        // Where the file system is mounted on the node only after the pod has started, the mount reaches the pod, too.
        VolumeMount { mount_propagation: Some("HostToContainer".to_owned()), ..mount("bpffs", BPFFS) },
    ]
}

/// The tolerations of the settings, and those that replace the pod soon after its node is lost: Kubernetes' own default is five minutes.
/// The settings' own for these taints go before.
fn tolerations(settings: &Settings) -> Vec<Toleration> {
    let mut all = settings.tolerations.clone();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        if !all.iter().any(|toleration| toleration.key.as_deref() == Some(key)) {
            all.push(Toleration {
                key: Some(key.to_owned()),
                operator: Some("Exists".to_owned()),
                effect: Some("NoExecute".to_owned()),
                toleration_seconds: Some(settings.unreachable_seconds.into()),
                ..Toleration::default()
            });
        }
    }
    all
}
