//! `sluice-controller run` as a process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::process::{self, Process};
use crate::{loopback, programs, wait};

/// A controller. It is killed when this value is dropped.
#[derive(Debug)]
pub struct Controller {
    process: Option<Process>,
    kubeconfig: PathBuf,
    /// `None`: all.
    namespace: Option<String>,
    admin: SocketAddr,
    arguments: Vec<String>,
    log: PathBuf,
}

impl Controller {
    /// One for the Services of `namespace` (`None`: of all), with the identity and the API server of `kubeconfig`. It does not run yet; it will
    /// append to the file `log`.
    pub fn new(kubeconfig: PathBuf, namespace: Option<&str>, log: PathBuf) -> Self {
        let namespace = namespace.map(str::to_owned);
        Self { process: None, kubeconfig, namespace, admin: loopback::free(), arguments: Vec::new(), log }
    }

    /// Adds an argument, such as `--grace-period=1s`, from the next start on.
    #[must_use]
    pub fn with(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Starts it and returns at once.
    pub fn launch(&mut self) {
        assert!(self.process.is_none(), "the controller runs already");
        let mut command = Command::new(programs::controller().unwrap());
        command.arg("run");
        if let Some(namespace) = &self.namespace {
            command.args(["--namespace", namespace]);
        }
        command.arg("--admin-address").arg(self.admin.to_string()).args(&self.arguments);
        // A controller that is killed keeps its Lease, for which the next one would wait.
        command.env("KUBECONFIG", &self.kubeconfig).env("SLUICE_LEADER_ELECT", "false");
        self.process = Some(Process::start(command, &self.log).unwrap());
    }

    /// Starts it and waits until it is ready.
    pub async fn start(&mut self) {
        self.launch();
        self.ready().await;
    }

    /// Waits until it is ready. Panics if it ends instead.
    pub async fn ready(&mut self) {
        wait::eventually("the controller is ready", async || {
            let process = self.process.as_mut().expect("the controller was started");
            if let Some(status) = process.ended() {
                panic!("{:#}", process.failure(&format!("it ended with {status}")));
            }
            self.is_ready().await.then_some(())
        })
        .await;
    }

    /// Whether it says that it is ready.
    pub async fn is_ready(&self) -> bool {
        self.ask("/readyz").await.is_ok_and(|(code, _)| code == 200)
    }

    /// Asks its admin server: status code and text.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn ask(&self, path: &str) -> Result<(u16, String)> {
        ask(self.admin, path).await
    }

    /// The value of a metric, by its name and labels as they are printed; `None` if there is none.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.ask("/metrics").await.ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// Kills it (SIGKILL): nothing of it is left to do anything.
    pub fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// Asks it to end (SIGTERM), and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        self.end(Signal::SIGTERM)
    }

    /// Stops it in its tracks (SIGSTOP), as a machine does that is suspended.
    pub fn suspend(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut()?.ended()
    }

    /// Its process id; `None` while it does not run.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// What it has logged, of all its runs.
    pub fn log(&self) -> String {
        process::tail(&self.log, usize::MAX)
    }

    /// The file of its log.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("the controller runs").signal(signal);
    }

    fn end(&mut self, signal: Signal) -> ExitStatus {
        self.process.take().expect("the controller runs").end(signal)
    }
}

/// Asks the admin server of a controller: status code and text.
///
/// # Errors
/// It does not answer.
pub async fn ask(admin: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(admin).await.context("connecting to the controller")?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: controller\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.context("asking the controller")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.context("reading the controller's answer")?;
    let (head, text) = answer.split_once("\r\n\r\n").context("an answer without a head")?;
    let code =
        head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("an answer without a code")?;
    Ok((code, text.to_owned()))
}
