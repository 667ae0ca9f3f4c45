//! Devices that aren't this machine: what is the same over adb and over ssh.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::Watch;
use super::facts::Facts;
use super::guard::{Guard, Refused};
use crate::unready::{State, Unready};

/// A way to a device.
pub(crate) trait Remote: Send + Sync {
    /// The device, for messages.
    fn name(&self) -> String;
    /// In which folder its own is made, where nobody says: an absolute path, or one in the home folder.
    fn default_folder(&self) -> &'static str;
    /// What a script says on standard output, and its exit status.
    fn script(&self, script: &str, most: Duration) -> Result<(String, i32), Trouble>;
    /// Copies a file to a path on the device, for as long as somebody waits.
    fn send(&self, file: &Path, to: &str, watch: &dyn Watch) -> Result<(), Trouble>;
    /// The program whose standard streams are those of a script on the device.
    fn client(&self, script: &str) -> Command;
    /// Starts a guard's script.
    fn guard(&self, script: &str) -> Result<Guard, Refused> {
        Guard::start(self.client(script), "")
    }
    /// Why the device can't be reached; `None` if it seems that it can.
    fn diagnose(&self) -> Option<Unready>;
    /// Does what may bring it back.
    fn revive(&self);
    /// Why nothing is measured there, whatever its agent may be.
    fn refuses(&self, facts: &Facts) -> Option<Unready>;
}

/// What didn't work.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The device is in a state in which it can't.
    Unready(Unready),
    /// The connection broke off; why, as far as is known.
    Cut(String),
}

impl Trouble {
    /// Nobody waited for it any longer.
    pub(super) fn stopped(name: &str) -> Self {
        let what = format!("interrupted while the agent was sent to {name}");
        Self::Unready(Unready::new(State::Failed, what, "start again: what is there already isn't sent again"))
    }

    /// As a state of the device.
    pub(super) fn unready(self, name: &str) -> Unready {
        match self {
            Self::Unready(unready) => unready,
            Self::Cut(why) => {
                Unready::new(State::Offline, format!("the connection to {name} broke off ({why})"), "try again")
            }
        }
    }

    /// If a file couldn't be written by what was said of it.
    pub(super) fn of_writing(name: &str, said: &str) -> Option<Self> {
        let (state, what, remedy) = if said.contains("No space left on device") || said.contains("Disk quota exceeded")
        {
            (State::NoSpace, "has no space left for the agent", "free some space on it")
        } else if said.contains("Permission denied") || said.contains("Read-only file system") {
            let remedy = "name a folder that can be written in the device's configuration (folder = \"…\")";
            (State::NotExecutable, "doesn't let the agent be written", remedy)
        } else {
            return None;
        };
        Some(Self::Unready(Unready::new(state, format!("{name} {what}"), remedy)))
    }
}
