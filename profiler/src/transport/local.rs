//! An agent as a process on this machine.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::process::{Talk, apart, wait};
use super::{Connection, Link, Peer};
use crate::device::DeviceConfig;
use crate::unready::{State, Unready};

const NAME: &str = "fleetfoot-agent";
/// How long an agent may take to end where it should have, and where it is told to.
const ENDING: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(500));

/// This machine.
pub(super) struct Local {
    agent: Option<PathBuf>,
}

impl Local {
    pub(super) fn new(device: &DeviceConfig) -> Self {
        Self { agent: device.agent.clone() }
    }
}

impl Link for Local {
    fn connect(&self) -> Result<Connection, Unready> {
        let program = find(self.agent.as_deref())?;
        let mut command = Command::new(&program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C is for the host, which finishes what it is doing; the agent ends when its input closes.
        apart(&mut command);
        let failed = |why: String| {
            Unready::new(
                State::Failed,
                format!("can't start {}: {why}", program.display()),
                "build it with `make build`",
            )
        };
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let streams = child.stdout.take().zip(child.stdin.take());
        let (from, to) = streams.ok_or_else(|| failed("its process has no streams".to_owned()))?;
        let talk = Talk::of(child.stderr.take());
        let peer = LocalAgent { program, child, talk };
        Ok(Connection { from: Box::new(from), to: Box::new(to), peer: Box::new(peer) })
    }
}

/// The agent's program: the configuration's, else beside this program, else on PATH.
fn find(configured: Option<&Path>) -> Result<PathBuf, Unready> {
    if let Some(path) = configured {
        return Ok(path.to_path_buf());
    }
    let exe = std::env::current_exe().unwrap_or_default();
    // Cargo's test programs lie one folder below the programs themselves.
    let beside = exe.ancestors().skip(1).take(2).map(Path::to_path_buf);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = beside.chain(std::env::split_paths(&path));
    let file = format!("{NAME}{}", std::env::consts::EXE_SUFFIX);
    folders.map(|folder| folder.join(&file)).find(|program| program.is_file()).ok_or_else(|| {
        Unready::new(
            State::Absent,
            format!("{NAME} is neither beside fleetfoot nor on PATH"),
            "build it with `make build`, or set `agent` in the device configuration",
        )
    })
}

struct LocalAgent {
    program: PathBuf,
    child: Child,
    talk: Talk,
}

impl Peer for LocalAgent {
    fn epitaph(&mut self) -> String {
        let program = self.program.display();
        let ended = match wait(&mut self.child, ENDING.0) {
            Some(status) => format!("the agent {program} ended ({status})"),
            None => format!("the agent {program} closed its output"),
        };
        match self.talk.lines().last() {
            Some(line) => format!("{ended}; it last said: {line}"),
            None => ended,
        }
    }
}

impl Drop for LocalAgent {
    fn drop(&mut self) {
        // Its input is closed by now: it ends by itself, unless it hangs.
        if wait(&mut self.child, ENDING.1).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
