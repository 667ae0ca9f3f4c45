//! Real phones and boards for tests: Android's adbd and an sshd in worlds of their own on this machine (`tests/phone.sh`), and a
//! cable between, which cuts, stalls and comes off.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{fleetfoot_process, text};

/// How long anything may take that isn't measured.
const PATIENCE: Duration = Duration::from_secs(60);

/// The folder of a phone; `None`, with the reason on standard error, where this machine can't have one.
fn made(architecture: &str) -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/phone.sh");
    let made = Command::new(script).arg(architecture).stderr(Stdio::inherit()).output().expect("tests/phone.sh runs");
    skipped(&made, "a phone")?;
    Some(PathBuf::from(String::from_utf8(made.stdout).unwrap().trim()))
}

fn skipped(output: &Output, what: &str) -> Option<()> {
    match output.status.code() {
        Some(0) => Some(()),
        Some(77) if std::env::var_os("CI").is_none() => {
            eprintln!("skipped: this machine can't have {what}");
            None
        }
        status => panic!("{what}: exit status {status:?}"),
    }
}

/// A port that was free a moment ago, none that adb takes for an emulator's.
pub fn free_port() -> u16 {
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if !(5554..=5700).contains(&port) {
            return port;
        }
    }
}

/// The port of an adb server of this test program's own, which ends with it.
pub fn adb_server() -> u16 {
    static PORT: OnceLock<u16> = OnceLock::new();
    *PORT.get_or_init(|| {
        let (sender, port) = mpsc::channel();
        // It ends with the thread that started it.
        thread::spawn(move || {
            let port = free_port();
            let mut server = Command::new("setpriv");
            server.args(["--pdeathsig", "KILL", "adb", "-P", &port.to_string(), "nodaemon", "server"]);
            server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut server = server.spawn().expect("adb starts (Debian: apt install adb)");
            await_for("adb's server", || TcpStream::connect(("127.0.0.1", port)).is_ok());
            sender.send(port).unwrap();
            let _ = server.wait();
        });
        port.recv().unwrap()
    })
}

/// Waits until something is so.
#[track_caller]
pub fn await_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// What serves a phone or a board; it ends with this.
pub struct Served {
    child: Child,
    pub port: u16,
}

impl Served {
    fn start(folder: &Path, port: u16, before: &[&str], environment: &[(&str, &str)]) -> Option<Self> {
        let mut command = Command::new(folder.join("run.sh"));
        command.args(before).arg(port.to_string()).env("PHONE_UNTIL_EOF", "1").envs(environment.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said.starts_with("serving") {
            return Some(Self { child, port });
        }
        let output = child.wait_with_output().unwrap();
        skipped(&output, "a phone or board")?;
        panic!("it ended at once");
    }

    /// Ends it, as a battery that is taken out does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A phone, its cable, and a folder for a test's files with its configuration in it.
pub struct Phone {
    made: PathBuf,
    pub served: Served,
    pub cable: Cable,
    pub folder: TempDir,
    environment: Vec<(String, String)>,
}

impl Phone {
    /// With this environment (`tests/phone/run.sh`).
    pub fn start(environment: &[(&str, &str)]) -> Option<Self> {
        Self::of("amd64", environment)
    }

    pub fn of(architecture: &str, environment: &[(&str, &str)]) -> Option<Self> {
        let (made, folder) = (made(architecture)?, TempDir::new().unwrap());
        let served = Served::start(&made, free_port(), &[], environment)?;
        let cable = Cable::to(served.port);
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let phone = Self { made, served, cable, folder, environment };
        phone.connect();
        phone.configure("");
        Some(phone)
    }

    /// Its serial number, which is the address of its cable.
    pub fn serial(&self) -> String {
        format!("127.0.0.1:{}", self.cable.port)
    }

    pub fn connect(&self) {
        await_for("the phone", || {
            self.adb(&["connect", &self.serial()]);
            self.try_shell("true").is_some()
        });
    }

    /// Starts it again at the same port, with what is stored on it only if that is a folder of this machine.
    pub fn restart(&mut self) {
        let environment: Vec<(&str, &str)> =
            self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        await_for("the port", || TcpListener::bind(("127.0.0.1", self.served.port)).is_ok());
        self.served = Served::start(&self.made, self.served.port, &[], &environment).expect("it started before");
    }

    /// Writes its configuration, with further lines.
    pub fn configure(&self, lines: &str) -> PathBuf {
        let path = self.folder.path().join("phone.toml");
        let serial = toml::Value::String(self.serial());
        // Tests that run at once are on cores of their own.
        let core = usize::from(self.cable.port) % thread::available_parallelism().unwrap().get();
        let cores = if lines.contains("cores") { String::new() } else { format!("cores = [{core}]\n") };
        std::fs::write(&path, format!("transport = \"adb\"\nserial = {serial}\n{cores}{lines}\n")).unwrap();
        path
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn adb(&self, arguments: &[&str]) -> Output {
        let port = adb_server().to_string();
        let mut command = Command::new("timeout");
        command.args(["20", "adb", "-P", &port]).args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    pub fn try_shell(&self, script: &str) -> Option<String> {
        let script = format!("{script}\necho; echo end-of-it");
        let output = self.adb(&["-s", &self.serial(), "shell", "-T", &script]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        Some(said.strip_suffix("\nend-of-it\n")?.to_owned())
    }

    /// What a script says there.
    #[track_caller]
    pub fn shell(&self, script: &str) -> String {
        self.try_shell(script).unwrap_or_else(|| panic!("the phone's shell: {script}"))
    }

    /// `fleetfoot`, with this test program's adb.
    pub fn fleetfoot(&self, arguments: &[&str]) -> assert_cmd::Command {
        assert_cmd::Command::from_std(self.process(arguments))
    }

    pub fn process(&self, arguments: &[&str]) -> Command {
        with_adb(arguments)
    }

    /// Nothing of a run is left but the agent for the next one: no process, no model, no changed setting.
    #[track_caller]
    pub fn assert_left_alone(&self) {
        let folder = "/data/local/tmp/fleetfoot-agent";
        await_for("the agent's end", || {
            let left = self.shell("for p in /proc/[0-9]*; do tr '\\000' ' ' < $p/cmdline 2>/dev/null; echo; done");
            !left.contains("fleetfoot-agent") && !left.contains("fleetfoot-guard")
        });
        await_for("settings to be put back", || {
            self.shell(&format!("ls -d {folder}/restore {folder}/holder 2>/dev/null")).is_empty()
        });
        assert_eq!(self.shell("settings get global stay_on_while_plugged_in").trim(), "null");
        assert_ne!(self.shell("cat /data/local/state/fixed-performance 2>/dev/null").trim(), "true");
    }
}

/// Fails as a tool should, whatever it told before: no panic, nothing on standard output. Returns the last line.
#[track_caller]
pub fn fails(mut command: assert_cmd::Command) -> String {
    let assert = command.assert();
    let said = super::stderr(&assert);
    assert_eq!(assert.get_output().status.code(), Some(1), "exit status; it said: {said}");
    assert_eq!(super::stdout(&assert), "", "standard output of a failure");
    assert!(!said.contains("panicked"), "a panic: {said}");
    let last = said.lines().last().unwrap_or_default().to_owned();
    assert!(last.starts_with("fleetfoot: "), "who speaks: {said}");
    last
}

/// `fleetfoot`, with this test program's adb.
pub fn with_adb(arguments: &[&str]) -> Command {
    let mut command = fleetfoot_process(arguments);
    command.env("ANDROID_ADB_SERVER_PORT", adb_server().to_string()).env_remove("ANDROID_SERIAL");
    command
}

/// A board with an sshd, its cable, and a folder for a test's files with its configuration in it.
pub struct Board {
    made: PathBuf,
    pub served: Served,
    pub cable: Cable,
    pub folder: TempDir,
}

impl Board {
    pub fn start() -> Option<Self> {
        let (made, folder) = (made("amd64")?, TempDir::new().unwrap());
        let keys = folder.path().join("keys");
        let served = Served::start(&made, free_port(), &["--ssh", text(&keys)], &[])?;
        let cable = Cable::to(served.port);
        let config = std::fs::read_to_string(keys.join("config")).unwrap();
        let through = config.replace(&format!("Port {}", served.port), &format!("Port {}", cable.port));
        assert_ne!(config, through, "the port stands in the configuration");
        std::fs::write(keys.join("config"), through).unwrap();
        let board = Self { made, served, cable, folder };
        board.configure("");
        Some(board)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes its configuration, with further lines.
    pub fn configure(&self, lines: &str) -> PathBuf {
        let path = self.path("board.toml");
        std::fs::write(&path, format!("transport = \"ssh\"\nhost = \"board\"\n{lines}\n")).unwrap();
        path
    }

    /// What a script says there, past the cable.
    pub fn shell(&self, script: &str) -> String {
        let port = self.served.port.to_string();
        let mut ssh = Command::new(self.path("keys/bin/ssh"));
        let output = ssh.args(["-p", &port, "board", script]).stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The same with nothing of the configuration but how the board is reached.
    pub fn shell_past(&self, script: &str) -> String {
        let (port, key) = (self.served.port.to_string(), self.path("keys/id"));
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "/dev/null", "-p", &port, "-i", text(&key), "-o", "StrictHostKeyChecking=no"]);
        ssh.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "pi@127.0.0.1", script]);
        let output = ssh.stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `fleetfoot`, with an ssh that knows the board.
    pub fn process(&self, arguments: &[&str]) -> Command {
        let mut command = fleetfoot_process(arguments);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.path("keys/bin")).chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(folders).unwrap());
        command
    }

    pub fn fleetfoot(&self, arguments: &[&str]) -> assert_cmd::Command {
        assert_cmd::Command::from_std(self.process(arguments))
    }

    #[track_caller]
    pub fn assert_left_alone(&self) {
        let processes = "for p in /proc/[0-9]*; do tr '\\000' ' ' < $p/cmdline 2>/dev/null; echo; done";
        await_for("the agent's end", || {
            let left = self.shell(processes);
            !left.contains("fleetfoot-agent") && !left.contains("fleetfoot-guard")
        });
        assert_eq!(self.shell("ls -d .cache/fleetfoot-agent/holder 2>/dev/null"), "", "who measures");
    }

    pub fn made(&self) -> &Path {
        &self.made
    }
}

/// A way to a port, on which things go wrong.
pub struct Cable {
    pub port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    fault: Mutex<Fault>,
    /// Bytes that went to the device and came from it.
    sent: AtomicU64,
    received: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// All connections are cut when so many bytes more have come from the device; then all is well again.
    CutReceived(u64),
    /// The same with bytes that went to it.
    CutSent(u64),
    /// Nothing goes through, and nobody is told.
    Stall,
    /// The cable is off.
    Off,
}

impl Cable {
    fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        assert!(!(5554..=5700).contains(&own), "a port that adb takes for an emulator's");
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for host in listener.incoming().map_while(Result::ok) {
                if *shared.fault.lock().unwrap() == Fault::Off {
                    continue;
                }
                let Ok(device) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                // Small packets go at once.
                host.set_nodelay(true).unwrap();
                device.set_nodelay(true).unwrap();
                shared.open.lock().unwrap().extend([host.try_clone().unwrap(), device.try_clone().unwrap()]);
                let pairs = [(host.try_clone().unwrap(), device.try_clone().unwrap(), true), (device, host, false)];
                for (from, to, is_sent) in pairs {
                    let state = Arc::clone(&shared);
                    thread::spawn(move || state.pass(from, to, is_sent));
                }
            }
        });
        Self { port: own, state }
    }

    /// From now on this goes wrong.
    pub fn set(&self, fault: Fault) {
        let counted = |count: &AtomicU64, more: u64| count.load(Ordering::SeqCst) + more;
        *self.state.fault.lock().unwrap() = match fault {
            Fault::CutReceived(more) => Fault::CutReceived(counted(&self.state.received, more)),
            Fault::CutSent(more) => Fault::CutSent(counted(&self.state.sent, more)),
            fault => fault,
        };
        if fault == Fault::Off {
            self.state.cut();
        }
    }

    /// Whether the last fault has happened.
    pub fn is_whole(&self) -> bool {
        *self.state.fault.lock().unwrap() == Fault::None
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.set(Fault::Off);
    }
}

impl State {
    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream, is_sent: bool) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let mut bytes = &buffer[..length];
            let count = if is_sent { &self.sent } else { &self.received };
            let before = count.fetch_add(bytes.len() as u64, Ordering::SeqCst);
            let mut is_cut = false;
            loop {
                let mut fault = self.fault.lock().unwrap();
                match *fault {
                    Fault::CutReceived(at) if !is_sent && before + bytes.len() as u64 > at => is_cut = true,
                    Fault::CutSent(at) if is_sent && before + bytes.len() as u64 > at => is_cut = true,
                    Fault::Stall => {
                        drop(fault);
                        thread::sleep(Duration::from_millis(20));
                        continue;
                    }
                    _ => {}
                }
                if let (true, Fault::CutReceived(at) | Fault::CutSent(at)) = (is_cut, *fault) {
                    bytes = &bytes[..at.saturating_sub(before).min(bytes.len() as u64) as usize];
                    *fault = Fault::None;
                }
                break;
            }
            let passed = to.write_all(bytes);
            if is_cut {
                self.cut();
            }
            if passed.is_err() || is_cut {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}
