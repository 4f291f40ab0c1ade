//! The process that holds everything which exists only for the demo.
//!
//! It talks with the guide by lines: it says [`LAID_OUT`], takes the gateway file as a JSON string, says [`SERVING`], and
//! then does what it is told until its input ends; once it has been told [`STAY`], until it is asked to end by a signal.

use std::io::{BufRead, Write, stdin, stdout};
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use sluice_tests::addresses::Family;
use sluice_tests::gateway::Sluice;
use sluice_tests::kube_proxy::{ClusterIp, Forward, Protocol};
use sluice_tests::topology::Topology;

use crate::state::{Claim, Name, State};
use crate::web;

/// The network is there.
pub const LAID_OUT: &str = "laid out";
/// The gateway serves; its process id follows.
pub const SERVING: &str = "serving";
/// End the gateway's process.
pub const STOP: &str = "stop";
/// It has ended.
pub const STOPPED: &str = "stopped";
/// Do not end with your input.
pub const STAY: &str = "stay";

/// What the keeper waits for.
enum Event {
    Line(String),
    InputEnded,
    Signal,
}

/// Holds it.
pub fn run(name: &Name) -> Result<ExitCode> {
    let (events, happened) = channel();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("taking over signals")?;
    std::thread::spawn({
        let events = events.clone();
        move || signals.forever().try_for_each(|_| events.send(Event::Signal))
    });

    let mut claim = Claim::new(name)?;
    let http = Forward {
        cluster_ip: ClusterIp::Main,
        protocol: Protocol::Tcp,
        port: 80,
        backends: vec![0, 1],
        target_port: 80,
    };
    let topology =
        Topology::builder().families(&[Family::V4]).forward(http).publish(&name.to_string()).build()?;
    for backend in &topology.backends {
        web::serve(backend)?;
    }
    let mut sluice = Sluice::new(&topology)?;
    // As the command line has it where nothing else is said, so that the tour's commands are short.
    sluice.set_gateway_id("default");
    let keeper = i32::try_from(std::process::id()).context("a process id")?;
    claim.tell(&State { keeper, mounts: sluice.mounts_path() })?;
    say(LAID_OUT);

    std::thread::spawn(move || follow_input(&events));
    let Event::Line(line) = happened.recv().context("waiting for the gateway file")? else {
        return Ok(ExitCode::SUCCESS);
    };
    let text: String = serde_json::from_str(&line).context("reading the gateway file")?;
    sluice.write(&text)?;
    sluice.start(&topology)?;
    say(&format!("{SERVING} {}", sluice.pid()?));

    let mut stays = false;
    loop {
        match happened.recv().context("waiting for the guide")? {
            Event::Line(line) if line == STOP => {
                sluice.stop(Signal::SIGTERM)?;
                say(STOPPED);
            }
            Event::Line(line) if line == STAY => {
                leave_the_terminal()?;
                stays = true;
            }
            Event::Line(line) => bail!("what does `{line}` mean?"),
            Event::InputEnded if stays => {}
            Event::InputEnded | Event::Signal => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// Tells the guide. If it is gone, the input has ended as well, and that is what ends the keeper.
fn say(line: &str) {
    let _ = writeln!(stdout(), "{line}");
}

/// From now on the terminal is others', with its signals.
fn leave_the_terminal() -> Result<()> {
    nix::unistd::setsid().context("starting a session")?;
    let nowhere = std::fs::File::options().write(true).open("/dev/null").context("opening /dev/null")?;
    nix::unistd::dup2_stderr(&nowhere).context("leaving standard error")
}

fn follow_input(events: &Sender<Event>) {
    for line in stdin().lock().lines().map_while(Result::ok) {
        if events.send(Event::Line(line)).is_err() {
            return;
        }
    }
    // Nobody hears it once the keeper has ended.
    let _ = events.send(Event::InputEnded);
}
