//! What each image is: its one program, and how it is started.

use clap::ValueEnum;
use oci_spec::image::{ANNOTATION_DESCRIPTION, ANNOTATION_LICENSES, ANNOTATION_TITLE, ANNOTATION_VERSION};

/// One of Sluice's images.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Image {
    /// The loader with the BPF programs inside; also the drop-in for Kube-OVN's own gateway image
    Gateway,
    /// The controller
    Controller,
}

impl Image {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 2] = [Self::Gateway, Self::Controller];

    /// Repository part of the image's name; Cargo package and program are called the same.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "sluice-gateway",
            Self::Controller => "sluice-controller",
        }
    }

    /// As containerd and the kubelet name it when a pod says `sluice-gateway:0.1.0`.
    pub fn reference(self) -> String {
        format!("docker.io/library/{}:{}", self.name(), env!("CARGO_PKG_VERSION"))
    }

    /// Links below the root, and where they lead: other names of the program.
    pub const fn links(self) -> &'static [(&'static str, &'static str)] {
        match self {
            // What Kube-OVN's controller calls in gateway pods of its own: docs/kube-ovn-drop-in.md.
            Self::Gateway => &[("bin/bash", "/sluice-gateway"), ("bin/sleep", "/sluice-gateway")],
            Self::Controller => &[],
        }
    }

    /// Who the program runs as, unless a pod says otherwise. Capabilities that a container adds are in force for root only.
    pub const fn user(self) -> &'static str {
        match self {
            Self::Gateway => "0:0",
            Self::Controller => "65532:65532",
        }
    }

    /// The program, by its path.
    pub fn entrypoint(self) -> String {
        format!("/{}", self.name())
    }

    /// The arguments, unless the container brings some.
    pub const fn arguments(self) -> &'static [&'static str] {
        &["run"]
    }

    /// What does not depend on the commit.
    pub fn labels(self) -> [(&'static str, &'static str); 4] {
        let description = match self {
            Self::Gateway => "eBPF LoadBalancer gateway for Kubernetes: serves the VIP of a Service",
            Self::Controller => "Runs an eBPF gateway for each LoadBalancer Service of a cluster",
        };
        [
            (ANNOTATION_TITLE, self.name()),
            (ANNOTATION_DESCRIPTION, description),
            (ANNOTATION_VERSION, env!("CARGO_PKG_VERSION")),
            (ANNOTATION_LICENSES, env!("CARGO_PKG_LICENSE")),
        ]
    }
}

/// Where commands without a path are looked for.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[cfg(test)]
mod tests {
    use super::*;

    /// The Dockerfile that makes the same image of the same files.
    fn dockerfile() -> String {
        let mut text = "\
# The images for those who would rather build them by Docker: of the files that `cargo xtask image` leaves below target/images.
#
#     cargo xtask image
#     docker build --file deploy/Dockerfile --target gateway --tag sluice-gateway target/images
#
# xtask/src/image/recipe.rs says what is in here; a unit test there holds the two together.
"
        .to_owned();
        for image in Image::ALL {
            let name = image.name();
            let stage = name.trim_start_matches("sluice-");
            let labels =
                image.labels().map(|(label, value)| format!("{label}={value:?}")).join(" \\\n      ");
            text += &format!(
                "\nFROM scratch AS {stage}\nARG TARGETARCH\nCOPY ${{TARGETARCH}}/{name}/ /\nENV PATH={PATH}\nUSER {}\nWORKDIR /\n\
                 ENTRYPOINT [{:?}]\nCMD {:?}\nLABEL {labels}\n",
                image.user(),
                image.entrypoint(),
                image.arguments(),
            );
        }
        text
    }

    #[test]
    fn the_dockerfile_makes_the_same_images() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/Dockerfile");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == dockerfile(), "deploy/Dockerfile is to be:\n\n{}", dockerfile());
    }
}
