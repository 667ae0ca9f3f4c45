//! An agent as a process on this machine.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use super::process::{Client, KILLED};
use super::{Connection, Link, Peer};
use crate::device::DeviceConfig;
use crate::unready::{State, Unready};

const NAME: &str = "fleetfoot-agent";
/// How long an agent may take to end where it is told to.
const ENDING: Duration = Duration::from_millis(500);

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
        // Ctrl-C is for the host, which finishes what it is doing; the agent ends when its input closes.
        let (client, from, to) = Client::start(Command::new(&program), ENDING).map_err(|error| {
            let what = format!("can't start {}: {error}", program.display());
            Unready::new(State::Failed, what, "build it with `make build`")
        })?;
        Ok(Connection { from: Box::new(from), to: Box::new(to), peer: Box::new(LocalAgent { program, client }) })
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
    client: Client,
}

impl Peer for LocalAgent {
    fn epitaph(&mut self) -> String {
        let program = self.program.display();
        let (status, said) = self.client.last_words();
        let ended = match status {
            Some(status) if is_killed(status) => format!("the agent {program} was {KILLED}"),
            Some(status) => format!("the agent {program} ended ({status})"),
            None => format!("the agent {program} closed its output"),
        };
        match said.last() {
            Some(line) => format!("{ended}; it last said: {line}"),
            None => ended,
        }
    }
}

/// By signal 9, which the system sends where it has no memory left.
fn is_killed(status: ExitStatus) -> bool {
    #[cfg(unix)]
    return std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
    #[cfg(not(unix))]
    return status.code() == Some(137);
}
