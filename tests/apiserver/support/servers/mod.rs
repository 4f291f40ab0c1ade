//! Real etcd, kube-apiserver and kube-controller-manager.

mod audit;
mod definitions;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kube::config::AuthInfo;
use kube::{Client, Config};
use nix::sys::signal::Signal;
use tokio::sync::{Mutex, OnceCell};

pub use audit::Access;
pub use sluice_cluster::credentials::kubeconfig;
use sluice_cluster::credentials::{self, ADMIN, API_SERVER_FLAGS};
use sluice_cluster::programs;

use crate::folder::Folder;
use crate::loopback;
use crate::process::Process;

/// Where Services get their cluster addresses from: the ranges that those of the packet tests are in.
const SERVICE_RANGES: &str = "10.96.0.0/12,fd00:10:109::/112";
/// The controllers of the controller manager that tests need.
const CONTROLLERS: &str = "deployment-controller,replicaset-controller,garbage-collector-controller,\
                           namespace-controller,serviceaccount-controller,job-controller";
/// How long a server may take to answer, on a loaded machine.
const START: Duration = Duration::from_secs(60);

/// A control plane. It ends when this value is dropped, or with this process.
#[derive(Debug)]
pub struct Servers {
    controller_manager: Mutex<Process>,
    api_server: Mutex<Option<Process>>,
    _etcd: Process,
    address: SocketAddr,
    /// The certificate (DER) that the API server's is signed by.
    authority: Vec<u8>,
    started_in: Duration,
    folder: Folder,
}

impl Servers {
    /// The set that all tests of this program share, started by the first who asks.
    pub async fn shared() -> Arc<Self> {
        static SHARED: OnceCell<Arc<Servers>> = OnceCell::const_new();
        let start = async || {
            let servers = Self::start().await?;
            // Past the capture of what tests print, so that it is seen.
            let time = servers.started_in;
            writeln!(
                std::io::stdout(),
                "etcd, kube-apiserver and kube-controller-manager answered after {time:.1?}"
            )?;
            anyhow::Ok(Arc::new(servers))
        };
        Arc::clone(SHARED.get_or_try_init(start).await.expect("the servers start"))
    }

    /// A set of the caller's own, for tests that stop some of it.
    ///
    /// # Errors
    /// A program is missing, or does not start; the error has its log.
    pub async fn start() -> Result<Self> {
        let started = Instant::now();
        let folder = Folder::new()?;
        let address = loopback::free();
        let authority = credentials::make(folder.path(), &[address.ip()], &[ADMIN])?;
        folder.write("audit.yaml", audit::POLICY)?;
        let etcd = start_etcd(&folder).await?;
        let api_server = start_api_server(&folder, address)?;
        let api_server = wait_for_api_server(&authority, address, api_server).await?;
        let controller_manager = start_controller_manager(&folder, address)?;
        let mut servers = Self {
            controller_manager: Mutex::new(controller_manager),
            api_server: Mutex::new(Some(api_server)),
            _etcd: etcd,
            address,
            authority,
            started_in: Duration::ZERO,
            folder,
        };
        definitions::install(&servers.admin()?).await?;
        servers.wait_for_controllers().await?;
        servers.started_in = started.elapsed();
        Ok(servers)
    }

    /// How long the start took.
    pub const fn started_in(&self) -> Duration {
        self.started_in
    }

    /// Where their files and logs are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client that may do everything. It belongs to the caller's runtime.
    ///
    /// # Errors
    /// None that are not faults of the tests.
    pub fn admin(&self) -> Result<Client> {
        client(&self.authority, self.address, Some(ADMIN.name))
    }

    /// A client without a name, for requests that bring one.
    ///
    /// # Errors
    /// As of [`Self::admin`].
    pub fn anonymous(&self) -> Result<Client> {
        client(&self.authority, self.address, None)
    }

    /// A kubeconfig for the holder of `token`, whose namespace this is.
    pub fn kubeconfig(&self, token: &str, namespace: &str) -> String {
        let authority = self.folder.file(credentials::AUTHORITY).display().to_string();
        kubeconfig(&format!("https://{}", self.address), Some(&authority), token, namespace)
    }

    /// A kubeconfig by which everything may be done.
    pub fn admin_kubeconfig(&self) -> String {
        self.kubeconfig(ADMIN.name, "default")
    }

    /// What users with this name have asked for so far.
    ///
    /// # Errors
    /// The audit log is not as expected.
    pub fn audited(&self, user: &str) -> Result<Vec<Access>> {
        Ok(self.audited_from(user, 0)?.0)
    }

    /// The same from a place in the log on, and the place to go on from.
    ///
    /// # Errors
    /// As of [`Self::audited`].
    pub fn audited_from(&self, user: &str, start: u64) -> Result<(Vec<Access>, u64)> {
        audit::read(&self.folder.file(audit::LOG), user, start)
    }

    /// Ends the API server, until [`Self::start_api_server`].
    pub async fn stop_api_server(&self) {
        if let Some(mut process) = self.api_server.lock().await.take() {
            process.end(Signal::SIGKILL);
        }
    }

    /// Starts it again, on the same address.
    ///
    /// # Errors
    /// It does not answer in time.
    pub async fn start_api_server(&self) -> Result<()> {
        let mut running = self.api_server.lock().await;
        if running.is_none() {
            let process = start_api_server(&self.folder, self.address)?;
            *running = Some(wait_for_api_server(&self.authority, self.address, process).await?);
        }
        Ok(())
    }

    async fn wait_for_controllers(&self) -> Result<()> {
        use k8s_openapi::api::core::v1::ServiceAccount;
        let accounts: kube::Api<ServiceAccount> = kube::Api::namespaced(self.admin()?, "default");
        poll("the controller manager makes a service account", &self.controller_manager, async || {
            Ok(accounts.get_opt("default").await?.is_some())
        })
        .await
    }
}

async fn start_etcd(folder: &Folder) -> Result<Process> {
    let socket = folder.file("etcd.sock");
    let client = format!("unix://{}", socket.display());
    // No other member ever connects: the peers' address is never used.
    let peer = "http://127.0.0.1:1";
    let mut command = Command::new(programs::kubernetes("etcd")?);
    command.current_dir(folder.path()).args(["--name", "one", "--data-dir", "etcd", "--unsafe-no-fsync"]);
    command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    command.args(["--listen-peer-urls", &format!("unix://{}", folder.file("peer.sock").display())]);
    command.args(["--initial-advertise-peer-urls", peer, "--initial-cluster", &format!("one={peer}")]);
    let process = Mutex::new(Process::start(command, &folder.file("etcd.log"))?);
    poll("it listens", &process, async || Ok(socket.exists())).await?;
    Ok(process.into_inner())
}

fn start_api_server(folder: &Folder, address: SocketAddr) -> Result<Process> {
    let mut command = Command::new(programs::kubernetes("kube-apiserver")?);
    command.current_dir(folder.path());
    let etcd = format!("unix://{}", folder.file("etcd.sock").display());
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let flags: &[(&str, &str)] = &[
        ("etcd-servers", &etcd),
        ("bind-address", &host),
        ("secure-port", &port),
        // What it would put into the endpoints of its own Service, which nobody uses, and for which it would look for a default route.
        ("advertise-address", "192.0.2.1"),
        ("endpoint-reconciler-type", "none"),
        ("service-cluster-ip-range", SERVICE_RANGES),
        ("authorization-mode", "RBAC"),
        ("allow-privileged", "true"),
        ("audit-policy-file", "audit.yaml"),
        ("audit-log-path", audit::LOG),
    ];
    command.args(API_SERVER_FLAGS.iter().chain(flags).map(|(name, value)| format!("--{name}={value}")));
    Process::start(command, &folder.file("kube-apiserver.log"))
}

async fn wait_for_api_server(authority: &[u8], address: SocketAddr, process: Process) -> Result<Process> {
    let client = client(authority, address, Some(ADMIN.name))?;
    let process = Mutex::new(process);
    poll("it is ready", &process, async || {
        let request = kube::client::Body::empty();
        let request = hyper::Request::get("/readyz").body(request).context("a request")?;
        Ok(client.send(request).await.is_ok_and(|answer| answer.status().is_success()))
    })
    .await?;
    Ok(process.into_inner())
}

fn start_controller_manager(folder: &Folder, address: SocketAddr) -> Result<Process> {
    let kubeconfig =
        kubeconfig(&format!("https://{address}"), Some(credentials::AUTHORITY), ADMIN.name, "default");
    let kubeconfig = folder.write("kube-controller-manager.kubeconfig", &kubeconfig)?;
    let mut command = Command::new(programs::kubernetes("kube-controller-manager")?);
    command.current_dir(folder.path());
    command.args(["--kubeconfig".as_ref(), kubeconfig.as_os_str()]);
    command.args(["--leader-elect=false", "--secure-port=0", "--concurrent-gc-syncs=20"]);
    command.args([
        "--concurrent-deployment-syncs=20",
        "--concurrent-replicaset-syncs=20",
        "--concurrent-namespace-syncs=10",
    ]);
    command.args(["--kube-api-qps=1000", "--kube-api-burst=2000"]);
    command.arg(format!("--controllers={CONTROLLERS}"));
    command.arg(format!("--service-account-private-key-file={}", credentials::ACCOUNTS_KEY));
    Process::start(command, &folder.file("kube-controller-manager.log"))
}

fn client(authority: &[u8], address: SocketAddr, token: Option<&str>) -> Result<Client> {
    let mut config = Config::new(format!("https://{address}").parse().context("the API server's address")?);
    config.root_cert = Some(vec![authority.to_vec()]);
    // A client without a name passes on what others ask for and are answered.
    config.default_retry = token.is_some();
    config.auth_info = AuthInfo { token: token.map(|token| token.to_owned().into()), ..AuthInfo::default() };
    Client::try_from(config).context("making a client")
}

/// Waits for a server, which must not end meanwhile.
async fn poll(what: &str, process: &Mutex<Process>, check: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !check().await? {
        let mut process = process.lock().await;
        if let Some(status) = process.ended() {
            return Err(process.failure(&format!("it ended with {status}")));
        }
        if start.elapsed() > START {
            return Err(process.failure(&format!("not within {START:?}: {what}")));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
