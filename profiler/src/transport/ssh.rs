//! Boards and other machines through the system's `ssh`: the user's configuration, keys, agents and jump hosts are its own.
//!
//! One connection is made and shared by all commands (`ControlMaster`). Nothing is ever asked (`BatchMode`), and a host's key must be known
//! beforehand. Exit status 255 is ssh's own, for whatever it failed at; what it says tells them apart.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::facts::Facts;
use super::guard::{Guard, NAME, Refused};
use super::process::{Ended, Failure, run, run_while};
use super::remote::{Remote, Trouble};
use super::shell::{framed, unframed, word};
use super::{Silent, Watch};
use crate::unready::{State, Unready, printable};

/// How long a connection may take, jump hosts included.
const CONNECTS: Duration = Duration::from_secs(40);
/// A file takes at most so long, and besides so long for each MiB.
const SEND: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(5));
/// A connection that says nothing for so long is lost.
const OPTIONS: [&str; 27] = [
    "-o",
    "BatchMode=yes",
    "-o",
    "StrictHostKeyChecking=yes",
    "-o",
    "ConnectTimeout=15",
    "-o",
    "ServerAliveInterval=5",
    "-o",
    "ServerAliveCountMax=3",
    "-o",
    "LogLevel=ERROR",
    // What the user's configuration has for other uses of the host.
    "-o",
    "ControlMaster=no",
    "-o",
    "ControlPersist=no",
    "-o",
    "ClearAllForwardings=yes",
    "-o",
    "RemoteCommand=none",
    "-o",
    "PermitLocalCommand=no",
    "-o",
    "Tunnel=no",
    "-T",
    "-x",
    "-a",
];

/// Another machine.
pub(crate) struct Ssh {
    host: String,
    /// Where the shared connection's socket lies: in a folder of this user's alone.
    folder: tempfile::TempDir,
    master: Mutex<Option<Guard>>,
}

/// Whether a host's name is one: it stands in commands of the user's configuration, too (`ProxyCommand`, `Match exec`).
pub(crate) fn is_host(host: &str) -> bool {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "._-@:%[]+/".contains(c);
    !host.is_empty() && !host.starts_with('-') && !host.contains("@-") && host.chars().all(harmless)
}

/// A folder of this user's alone, with a path that a socket's name can hold.
fn private_folder() -> std::io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("fleetfoot-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    let is_long = std::env::temp_dir().as_os_str().len() > 60;
    if is_long { builder.tempdir_in("/tmp") } else { builder.tempdir() }
}

impl Ssh {
    pub(crate) fn find(host: &str) -> Result<Self, Unready> {
        if !is_host(host) {
            let what = format!("'{}' is no name of a host", printable(host));
            return Err(Unready::new(
                State::Unreachable,
                what,
                "give one that `ssh` takes: a name of ~/.ssh/config, an address, with user@ in front",
            ));
        }
        let folder = private_folder();
        let folder = folder.map_err(|error| {
            Unready::new(
                State::Failed,
                format!("no temporary folder ({error})"),
                "see to it that there is one (TMPDIR)",
            )
        })?;
        let ssh = Self { host: host.to_owned(), folder, master: Mutex::default() };
        ssh.open()?;
        Ok(ssh)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    fn command(&self, options: &[&str], script: &str) -> Command {
        let mut command = Command::new("ssh");
        // Jump hosts are reached by another ssh, for which these options don't hold: it asks nobody either.
        command.env("SSH_ASKPASS_REQUIRE", "never");
        command.args(options).arg("-S").arg(self.socket()).args(OPTIONS).args(["--", &self.host]);
        // The user's shell there may be any; what it starts is the POSIX one.
        command.arg(script);
        command
    }

    /// A client of the shell that reads what it is to do from its input: no other shell sees it.
    fn shell(&self) -> Command {
        self.command(&[], &format!("exec sh -s {NAME}"))
    }

    /// Opens the shared connection, unless it is open. It ends with this process, whatever becomes of that.
    fn open(&self) -> Result<(), Unready> {
        let mut master = self.master.lock().unwrap_or_else(PoisonError::into_inner);
        if master.as_mut().is_some_and(Guard::is_alive) {
            return Ok(());
        }
        *master = None;
        let opened =
            Guard::start(self.command(&["-o", "ControlMaster=yes"], "echo fleetfoot-ready; exec cat > /dev/null"), "")
                .and_then(|mut guard| {
                    guard.word("fleetfoot-ready", CONNECTS, &Silent)?;
                    Ok(guard)
                });
        *master = Some(opened.map_err(|refused| self.unready(refused))?);
        Ok(())
    }

    fn unready(&self, refused: Refused) -> Unready {
        match refused {
            Refused::Start(error) => Unready::new(
                State::NoClient,
                format!("ssh can't be started ({error})"),
                "install an OpenSSH client (Debian: `apt install openssh-client`)",
            ),
            Refused::TooLong(most) => Unready::new(
                State::Unreachable,
                format!("{} hasn't answered for {} s", self.name(), most.as_secs()),
                format!("see what `ssh {}` says", self.host),
            ),
            Refused::Busy(said) | Refused::Ended(said) => self.refused(&said),
        }
    }

    /// What ssh's own words mean.
    fn refused(&self, said: &str) -> Unready {
        let (name, host) = (self.name(), &self.host);
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
        let last = printable(last);
        if said.contains("IDENTIFICATION HAS CHANGED") {
            let remedy = format!(
                "somebody may be in between: find out why; if the machine was set up anew, `ssh-keygen -R {host}`, then `ssh {host}` by hand"
            );
            return Unready::new(State::HostKey, format!("the key of {name} isn't the one that is known"), remedy);
        }
        if said.contains("Host key verification failed") || said.contains("host key is known") {
            let remedy = format!("connect once by hand (`ssh {host}`), compare the fingerprint, and accept it");
            return Unready::new(State::HostKey, format!("the key of {name} isn't known"), remedy);
        }
        if said.contains("Permission denied") || said.contains("Too many authentication failures") {
            let remedy = format!("`ssh-copy-id {host}`; a key with a passphrase has to be in ssh-agent");
            return Unready::new(State::Login, format!("{name} lets nobody in ({last})"), remedy);
        }
        let unreachable = [
            "Could not resolve",
            "refused",
            "timed out",
            "No route",
            "unreachable",
            "closed by",
            "reset by",
            "Broken pipe",
            "not responding",
        ];
        if unreachable.iter().any(|text| said.contains(text)) {
            let remedy = format!("see to it that it is on, that it has an SSH server, and that `ssh {host}` works");
            return Unready::new(State::Unreachable, format!("{name} can't be reached ({last})"), remedy);
        }
        Unready::new(
            State::Unreachable,
            format!("{name} can't be used ({last})"),
            format!("see what `ssh {host}` says"),
        )
    }

    fn trouble(&self, ended: Result<Ended, Failure>) -> Trouble {
        match ended {
            Ok(ended) if ended.status.code() == Some(255) => Trouble::Unready(self.refused(&ended.stderr)),
            Ok(ended) => Trouble::Cut(printable(&format!("ssh: {}", ended.stderr))),
            Err(Failure::TooLong(most)) => {
                Trouble::Cut(format!("{} hasn't answered for {} s", self.name(), most.as_secs()))
            }
            Err(Failure::Start(error)) => Trouble::Unready(self.unready(Refused::Start(error))),
            Err(Failure::Stopped) => Trouble::stopped(&self.name()),
        }
    }
}

impl Remote for Ssh {
    fn name(&self) -> String {
        format!("host {}", self.host)
    }

    fn default_folder(&self) -> &'static str {
        ".cache"
    }

    fn script(&self, script: &str, most: Duration) -> Result<(String, i32), Trouble> {
        match run(self.shell(), format!("{}\nexit\n", framed(script)).into_bytes(), most) {
            Ok(ended) => unframed(&ended).ok_or_else(|| self.trouble(Ok(ended))),
            ended => Err(self.trouble(ended)),
        }
    }

    fn send(&self, file: &Path, to: &str, watch: &dyn Watch) -> Result<(), Trouble> {
        let unreadable = |error: std::io::Error| Trouble::Cut(format!("{}: {error}", file.display()));
        let bytes = std::fs::read(file).map_err(unreadable)?;
        let most = SEND.0 + SEND.1 * (bytes.len() >> 20).try_into().unwrap_or(u32::MAX);
        let script = framed(&format!("cat > {} 2>&1", word(to)));
        let command = self.command(&[], &format!("exec sh -c {}", word(&script)));
        match run_while(command, bytes, most, &|| !watch.is_stopped()) {
            Err(Failure::Stopped) => Err(Trouble::stopped(&self.name())),
            Ok(ended) => match unframed(&ended) {
                Some((_, 0)) => Ok(()),
                Some((said, _)) => {
                    let why = || Trouble::Cut(printable(&format!("{said} {}", ended.stderr)));
                    Err(Trouble::of_writing(&self.name(), &format!("{said}{}", ended.stderr)).unwrap_or_else(why))
                }
                None => Err(self.trouble(Ok(ended))),
            },
            ended => Err(self.trouble(ended)),
        }
    }

    fn client(&self, script: &str) -> Command {
        // A connection that broke off is made anew; without it there is one for each command.
        let _ = self.open();
        self.command(&[], &format!("exec sh -c {}", word(script)))
    }

    fn guard(&self, script: &str) -> Result<Guard, Refused> {
        let _ = self.open();
        Guard::start(self.shell(), &format!("{script}\nexit\n"))
    }

    fn diagnose(&self) -> Option<Unready> {
        self.open().err()
    }

    fn revive(&self) {
        // Another one is made when it is asked for.
        if !self.socket().exists() {
            *self.master.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        let _ = self.open();
    }

    fn refuses(&self, _: &Facts) -> Option<Unready> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_a_command_or_an_option_is_no_host() {
        for host in
            ["raspberrypi.local", "pi@192.0.2.7", "jetson", "[2001:db8::1]", "ssh://pi@board:2222", "fe80::1%eth0"]
        {
            assert!(is_host(host), "{host}");
        }
        for host in ["", "-oProxyCommand=x", "a b", "a;b", "$(a)", "a`b`", "a\nb", "'a'", "a|b", "a&b", "u@-x", "ä"] {
            assert!(!is_host(host), "{host}");
        }
    }
}
