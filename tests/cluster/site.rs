//! The cluster that the cases share.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Instant;

use sluice_cluster::{Cluster, Options, cluster, programs};

/// Sluice's images, as `cargo xtask image` writes them.
pub fn images() -> Vec<PathBuf> {
    ["gateway", "controller"]
        .map(|name| programs::target().unwrap().join(format!("images/sluice-{name}.tar")))
        .into_iter()
        .inspect(|file| assert!(file.exists(), "there is no {}: cargo xtask image", file.display()))
        .collect()
}

/// A folder for a cluster that ends with this process; `name` is for several of one process.
pub fn folder(name: &str) -> PathBuf {
    let parent = programs::target().unwrap().join("cluster-tests");
    cluster::sweep(&parent).unwrap();
    parent.join(format!("{}{name}", std::process::id()))
}

/// The cluster that cases share, started by the first who asks.
pub fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| start("", 1))
}

/// Starts a cluster with Sluice; `name` is for several of one process. It ends with this process.
pub fn start(name: &str, nodes: usize) -> Cluster {
    let started = Instant::now();
    let cluster = start_without_sluice(name, nodes);
    cluster.install_sluice().unwrap();
    tell(&format!("a cluster with Sluice was ready after {:.1?}", started.elapsed()));
    cluster
}

/// The same without Sluice, but for its images on the nodes.
pub fn start_without_sluice(name: &str, nodes: usize) -> Cluster {
    let options = Options { folder: folder(name), nodes, images: images() };
    Cluster::start(&options, &|_| ()).unwrap()
}

/// Writes a line past the capture of what tests print, so that it is seen.
pub fn tell(line: &str) {
    let mut output = std::io::stdout();
    writeln!(output, "{line}").unwrap();
}
