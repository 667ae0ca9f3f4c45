//! An agent as a process on this machine.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::{Connection, Peer};
use crate::device::DeviceConfig;

const NAME: &str = "fleetfoot-agent";
/// How many lines of the agent's talk are kept for messages.
const KEPT_LINES: usize = 20;

pub(super) fn connect(device: &DeviceConfig) -> io::Result<Connection> {
    let program = find(device)?;
    let mut command = Command::new(&program);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        // Ctrl-C is for the host, which finishes what it is doing; the agent ends when its input closes.
        command.process_group(0);
    }
    let mut child = command
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("can't start {}: {error}", program.display())))?;
    let missing = || io::Error::other("the agent's process has no streams");
    let from = child.stdout.take().ok_or_else(missing)?;
    let to = child.stdin.take().ok_or_else(missing)?;
    let talk = Arc::default();
    if let Some(stderr) = child.stderr.take() {
        let talk = Arc::clone(&talk);
        thread::spawn(move || keep_talk(stderr, &talk));
    }
    let peer = LocalAgent { program, child, talk };
    Ok(Connection { from: Box::new(from), to: Box::new(to), peer: Box::new(peer) })
}

/// The agent's program: the configuration's, else beside this program, else on PATH.
fn find(device: &DeviceConfig) -> io::Result<PathBuf> {
    if let Some(path) = &device.agent {
        return Ok(path.clone());
    }
    let exe = std::env::current_exe().unwrap_or_default();
    // Cargo's test programs lie one folder below the programs themselves.
    let beside = exe.ancestors().skip(1).take(2).map(Path::to_path_buf);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = beside.chain(std::env::split_paths(&path));
    let file = format!("{NAME}{}", std::env::consts::EXE_SUFFIX);
    folders.map(|folder| folder.join(&file)).find(|program| program.is_file()).ok_or_else(|| {
        let what = format!(
            "{NAME} is neither beside fleetfoot nor on PATH: build it with `make build`, or set `agent` in the device configuration"
        );
        io::Error::new(io::ErrorKind::NotFound, what)
    })
}

fn keep_talk(stderr: ChildStderr, talk: &Mutex<Vec<String>>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let Ok(mut lines) = talk.lock() else { return };
        if lines.len() == KEPT_LINES {
            lines.remove(0);
        }
        lines.push(line);
    }
}

struct LocalAgent {
    program: PathBuf,
    child: Child,
    talk: Arc<Mutex<Vec<String>>>,
}

impl Peer for LocalAgent {
    fn epitaph(&mut self) -> String {
        let deadline = Instant::now() + Duration::from_secs(2);
        let ended = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break format!("the agent {} ended ({status})", self.program.display()),
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
                _ => break format!("the agent {} closed its output", self.program.display()),
            }
        };
        let last = self.talk.lock().ok().and_then(|lines| lines.last().cloned());
        last.map_or(ended.clone(), |line| format!("{ended}; it last said: {line}"))
    }
}

impl Drop for LocalAgent {
    fn drop(&mut self) {
        // Its input is closed by now: it ends by itself, unless it hangs.
        let deadline = Instant::now() + Duration::from_millis(500);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}
