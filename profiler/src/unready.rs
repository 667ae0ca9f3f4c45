//! Devices that can't be used as they are: in what state they are, and what a person does about it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of a device that isn't ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its configuration doesn't say which device it is.
    Unconfigured,
    /// It isn't there.
    Absent,
    /// The program that reaches it (`adb`, `ssh`) isn't there.
    NoClient,
    /// Which of several devices is meant isn't said.
    Ambiguous,
    /// It doesn't trust this machine yet.
    Unauthorized,
    /// This user may not open it.
    NoPermission,
    /// It is connected and doesn't answer.
    Offline,
    /// It is in a mode in which nothing can be measured: its bootloader, recovery.
    OtherMode,
    /// Its system is older than what the agent needs.
    TooOld,
    /// There is no agent for its processor.
    WrongAbi,
    /// There isn't enough space.
    NoSpace,
    /// Programs may not be run where the agent lies, or nothing may be written there.
    NotExecutable,
    /// Somebody else measures there.
    Busy,
    /// The host's key isn't known, or isn't the one that is.
    HostKey,
    /// The host can't be reached.
    Unreachable,
    /// The host lets nobody in with the keys that there are.
    Login,
    /// The agent there doesn't speak this version's protocol.
    StaleAgent,
    /// What was asked of it can't be had there, such as an execution provider.
    Unfit,
    /// It can't be used for another reason.
    Failed,
}

impl State {
    /// Whether a device that was there a moment ago may be back in this state's place.
    pub(crate) fn is_out_of_reach(self) -> bool {
        matches!(self, Self::Offline | Self::Absent | Self::Unreachable)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = serde_json::to_value(self).unwrap_or_default();
        f.pad(name.as_str().unwrap_or("failed"))
    }
}

/// A device that can't be used as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {remedy}")]
pub struct Unready {
    /// How it is.
    pub state: State,
    /// What was found.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl Unready {
    /// From what was found, and what to do about it.
    pub fn new(state: State, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state, what: what.into(), remedy: remedy.into() }
    }
}

/// A text from a device as it may be shown and written: without control characters, which might drive a terminal, and
/// not longer than a line.
pub(crate) fn printable(text: &str) -> String {
    const LONGEST: usize = 1000;
    let shown = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut shown: String = shown.take(LONGEST + 1).collect();
    if shown.chars().count() > LONGEST {
        shown = shown.chars().take(LONGEST).chain(['…']).collect();
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_the_names_that_scripts_read() {
        assert_eq!(State::NoClient.to_string(), "no-client");
        assert_eq!(serde_json::to_string(&State::Unauthorized).unwrap(), "\"unauthorized\"");
    }

    #[test]
    fn what_a_device_says_drives_no_terminal() {
        assert_eq!(printable(" a\x1b[2Jb\r\n"), "a [2Jb");
        let long = printable(&"x".repeat(100_000));
        assert!(long.chars().count() == 1001 && long.ends_with('…'));
    }
}
