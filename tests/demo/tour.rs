//! The guide: one sentence before each view, and each view a command that anybody could type.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use anstream::{print, println};
use anstyle::Style;
use anyhow::{Context, Result, bail, ensure};

use crate::keeper::{LAID_OUT, SERVING, STAY, STOP, STOPPED};
use crate::place::{Place, search_path};
use crate::state::Name;

const BOLD: Style = Style::new().bold();

const PICTURE: &str = concat!(
    "  far --- router === external network === node ---- backend0, backend1\n",
    "  192.0.2.100   |      172.18.0.0/16       | | 10.16.0.1      10.16.0.11, .12\n",
    "           client                  macvlan | | veth\n",
    "     172.18.0.100      net1 172.18.0.18    pod    eth0 10.16.0.2",
);

const VIP: &str = "http://172.18.0.18/";
const VIP_8080: &str = "http://172.18.0.18:8080/";
const PLACES: &str = "far, router, node, pod, backend0, backend1";
const PINS: &str = "/sys/fs/bpf/sluice/v1/default";

/// Lays everything out, shows it, and takes it away unless it is to be kept.
pub fn run(name: &Name, keep: bool) -> Result<ExitCode> {
    let guide = Guide { name };
    say("A LoadBalancer Service of Kubernetes, served by BPF programs. The network, in namespaces:");
    println!("{PICTURE}");
    let mut keeper = Keeper::start(name)?;
    keeper.expect(LAID_OUT)?;

    say("1. The controller makes the gateway's file of attachment definition, Subnet and Service.");
    let file = guide.render()?;
    print!("{file}");
    let gateway = keeper.serve(&file)?;

    say("2. `sluice-gateway run` serves it in the pod, with NET_ADMIN, NET_RAW, PERFMON and BPF, no more.");
    guide.show(Place::Pod, &format!("grep CapEff /proc/{gateway}/status"))?;

    say("3. Outside, the client in the VIP's subnet gets an answer, and so does the one behind the router.");
    guide.curl(Place::Client)?;
    guide.curl(Place::Far)?;
    let _clock = guide.start_clock()?;

    say("4. The pod looks like the original's, but for iptables: it is empty.");
    guide.show(Place::Pod, "(ip a show net1; ip a show eth0) | sed '/valid_lft/d; s/ qlen.*//'")?;
    for view in ["ip rule", "ip route show table 100", "iptables-save"] {
        guide.show(Place::Pod, view)?;
    }

    say("5. What the gateway says of itself, with its counters, and of the connection that is open.");
    guide.show(Place::Pod, "sluice-gateway status | grep .")?;
    guide.show(Place::Pod, "sluice-gateway flows --state established")?;

    say("6. The service and the flows as the BPF programs have them, fields by name.");
    guide.show(Place::Pod, &format!("bpftool map dump pinned {PINS}/services_v4 | xargs | fold -sw98"))?;
    guide.show(
        Place::Pod,
        &format!("bpftool map dump pinned {PINS}/flows_v4 | xargs | fold -sw98 | head -3"),
    )?;

    if keep {
        keeper.stay()?;
        instructions(name, &gateway);
        return Ok(ExitCode::SUCCESS);
    }
    say(
        "7. The gateway's process ends, and the VIP still answers. `cleanup` takes away all that Sluice made.",
    );
    keeper.stop()?;
    guide.curl(Place::Client)?;
    guide.show(Place::Pod, "sluice-gateway cleanup | tail -3")?;
    keeper.end()?;
    Ok(ExitCode::SUCCESS)
}

fn say(sentence: &str) {
    println!("\n{BOLD}{sentence}{BOLD:#}");
}

fn instructions(name: &Name, gateway: &str) {
    println!(
        "
{BOLD}All this stays up. To play with it, as root:{BOLD:#}
  cargo xtask demo --enter client    a shell at the client's; other places: {PLACES}
    curl {VIP}; curl -N {VIP}clock
  cargo xtask demo --enter pod       a shell in the gateway's container
    sluice-gateway status; sluice-gateway flows; bpftool map dump pinned {PINS}/flows_v4
    sed -i 's/port: 80/port: 8080/' /run/sluice/gateway.yaml    acts at once: ask {VIP_8080}
    kill -9 {gateway}; sluice-gateway run --config /run/sluice/gateway.yaml    the clock goes on meanwhile
  ip netns list                      the places are {name}-client, {name}-pod, ...
  cargo xtask demo --down            take it all away"
    );
}

struct Guide<'a> {
    name: &'a Name,
}

impl Guide<'_> {
    /// Runs a shell line in `place`, and prints both the line and what comes of it.
    fn show(&self, place: Place, line: &str) -> Result<String> {
        println!("{BOLD}{}${BOLD:#} {line}", place.name());
        let mut command = place.command(self.name, "sh")?;
        let output = finish(command.args(["-c", line]), line)?;
        print!("{output}");
        if !output.is_empty() && !output.ends_with('\n') {
            println!();
        }
        Ok(output)
    }

    /// Asks the VIP from `place`.
    fn curl(&self, place: Place) -> Result<()> {
        let answer = self.show(place, &format!("curl -sS -m 5 {VIP}"))?;
        ensure!(answer.starts_with("Hello from backend"), "that was not a backend's answer");
        Ok(())
    }

    /// The gateway file of the example's manifests.
    fn render(&self) -> Result<String> {
        let line = "sluice-controller render -f docs/examples/seed/*.yaml --cluster-ip 10.109.201.193";
        println!("{BOLD}${BOLD:#} {line}");
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(repository).env("PATH", search_path()?);
        finish(&mut command, line)
    }

    /// A connection that stays open until the value is dropped, so that there is one to be shown.
    fn start_clock(&self) -> Result<Clock> {
        let line = format!("curl -sN {VIP}clock");
        println!("{BOLD}{}${BOLD:#} {line} &", Place::Far.name());
        // Ended with this process, even when that is killed and cannot do it itself.
        let mut command = Place::Far.command(self.name, "setpriv")?;
        let mut child = command
            .args(["--pdeathsig", "KILL", "curl", "-sN", &format!("{VIP}clock")])
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {line}"))?;
        let stdout = child.stdout.take().context("its output")?;
        let clock = Clock(child);
        let mut first = String::new();
        BufReader::new(stdout).read_line(&mut first).with_context(|| format!("reading from {line}"))?;
        ensure!(!first.is_empty(), "`{line}` got no answer");
        print!("{first}");
        Ok(clock)
    }
}

/// A client whose connection stays open.
struct Clock(Child);

impl Drop for Clock {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What `command` prints.
fn finish(command: &mut Command, what: &str) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {what}"))?;
    if !output.status.success() {
        bail!("`{what}`: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The guide's end of the line to the keeper. Dropping it ends the keeper, once that has cleaned up.
struct Keeper {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    stays: bool,
}

impl Keeper {
    fn start(name: &Name) -> Result<Self> {
        let own = std::env::current_exe().context("finding this program's own path")?;
        let mut child = Command::new(own)
            .args(["--name", &name.to_string(), "hold"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the demo's keeper")?;
        let to = child.stdin.take();
        let from = BufReader::new(child.stdout.take().context("the keeper's output")?);
        Ok(Self { child, to, from, stays: false })
    }

    /// Waits until the keeper has come as far as `step`, and returns what else it says.
    fn expect(&mut self, step: &str) -> Result<String> {
        let mut line = String::new();
        self.from.read_line(&mut line).context("reading what the keeper says")?;
        let rest = line.strip_prefix(step).context("the demo could not be laid out: see the error above")?;
        Ok(rest.trim().to_owned())
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        let to = self.to.as_mut().context("the keeper listens no more")?;
        writeln!(to, "{line}").context("telling the keeper")
    }

    /// Lets the gateway serve `file`; returns its process id.
    fn serve(&mut self, file: &str) -> Result<String> {
        let text = serde_json::to_string(file).context("quoting the gateway file")?;
        self.tell(&text)?;
        self.expect(SERVING)
    }

    fn stop(&mut self) -> Result<()> {
        self.tell(STOP)?;
        self.expect(STOPPED).map(drop)
    }

    fn stay(&mut self) -> Result<()> {
        self.tell(STAY)?;
        self.stays = true;
        Ok(())
    }

    fn end(mut self) -> Result<()> {
        self.to = None;
        let status = self.child.wait().context("waiting for the keeper's end")?;
        ensure!(status.success(), "the demo's keeper ended with {status}");
        Ok(())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if !self.stays {
            self.to = None;
            let _ = self.child.wait();
        }
    }
}
