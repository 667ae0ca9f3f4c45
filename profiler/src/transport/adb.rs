//! Phones through Android's `adb`, the program: it knows keys, USB and wireless pairing, and other tools share its server.
//!
//! What is known of it and taken care of here: a connection that is lost in the middle of a command leaves exit status 0; `adb connect` has
//! exit status 0 when it fails; a device that came back at an address needs `adb disconnect` first; words of a command are joined
//! by spaces; standard input is eaten; `adb wait-for-device` waits for ever.

use std::env;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::Watch;
use super::facts::Facts;
use super::process::{Ended, Failure, run, run_while};
use super::remote::{Remote, Trouble};
use super::shell::{framed, unframed, word};
use crate::unready::{State, Unready, printable};

/// How long adb may take to say what it sees; it may have to start its server.
const SEES: Duration = Duration::from_secs(20);
/// A push takes at most so long, and besides so long for each MiB.
const PUSH: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3));
/// Android 8: older ones have no `sha256sum`, those before 7 no shell that tells exit statuses (shell_v2).
const OLDEST_SDK: u32 = 26;

/// A phone.
#[derive(Clone, Debug)]
pub(crate) struct Adb {
    serial: String,
}

/// What adb lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub serial: String,
    /// adb's word for its state; `device` is a usable one.
    pub state: String,
    /// Its model, where adb says it.
    pub model: Option<String>,
}

fn adb(arguments: &[&str], most: Duration) -> Result<Ended, Unready> {
    let mut command = Command::new("adb");
    command.args(arguments);
    run(command, Vec::new(), most).map_err(|failure| match failure {
        Failure::Start(error) => Unready::new(
            State::NoClient,
            format!("adb can't be started ({error})"),
            "install Android's platform tools (Debian: `apt install adb`) and have adb in PATH",
        ),
        Failure::TooLong(_) | Failure::Stopped => Unready::new(
            State::Offline,
            format!("adb {} hasn't ended within {} s", arguments.first().unwrap_or(&""), most.as_secs()),
            "see what `adb devices` says; `adb kill-server` starts it afresh",
        ),
    })
}

/// The devices that adb sees.
pub(crate) fn listed() -> Result<Vec<Listed>, Unready> {
    let ended = adb(&["devices", "-l"], SEES)?;
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    if !ended.status.success() {
        let what = format!("adb doesn't list its devices ({})", last_line(&ended.stderr));
        return Err(Unready::new(
            State::NoClient,
            what,
            "see what `adb devices` says; `adb kill-server` starts it afresh",
        ));
    }
    Ok(parsed(&text))
}

/// adb's words for states.
const STATES: [&str; 12] = [
    "device",
    "offline",
    "unauthorized",
    "authorizing",
    "connecting",
    "no permissions",
    "recovery",
    "sideload",
    "rescue",
    "bootloader",
    "host",
    "unknown",
];

fn is_word(text: &str, word: &str) -> bool {
    text.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '(']))
}

fn parsed(text: &str) -> Vec<Listed> {
    let lines = text.lines().skip_while(|line| !line.starts_with("List of devices")).skip(1);
    let device = |line: &str| {
        // Names of phones on the network may hold spaces: the state is the first word that is one.
        let words = line.match_indices(char::is_whitespace).map(|(at, _)| at);
        let (serial, rest) = words
            .map(|at| (line[..at].trim_end(), line[at..].trim_start()))
            .find(|(serial, rest)| !serial.is_empty() && STATES.iter().any(|state| is_word(rest, state)))
            .or_else(|| line.split_once(char::is_whitespace).map(|(serial, rest)| (serial, rest.trim_start())))?;
        // The one state of more words than one, with a remark behind it.
        let state =
            if rest.starts_with("no permissions") { "no permissions" } else { rest.split_whitespace().next()? };
        let model = rest.split_whitespace().find_map(|field| field.strip_prefix("model:"));
        Some(Listed { serial: printable(serial), state: printable(state), model: model.map(printable) })
    };
    lines.filter_map(device).collect()
}

impl Listed {
    /// Why it can't be used; `None` if it can.
    pub(crate) fn unready(&self) -> Option<Unready> {
        let serial = &self.serial;
        let address = is_address(serial);
        let (state, what, remedy) = match self.state.as_str() {
            "device" => return None,
            "unauthorized" => (
                State::Unauthorized,
                "hasn't allowed this machine to debug it",
                "unlock it and accept \"Allow USB debugging?\"; if it doesn't ask, unplug it, choose \"Revoke USB debugging authorizations\" in its developer options, and plug it in again".to_owned(),
            ),
            "authorizing" | "connecting" => {
                (State::Offline, "is still connecting", "wait a moment and look for a question on its screen".to_owned())
            }
            "offline" if address => (
                State::Offline,
                "is connected and doesn't answer",
                format!("`adb disconnect {serial}`, then `adb connect {serial}`"),
            ),
            "offline" => (
                State::Offline,
                "is connected and doesn't answer",
                "unplug it and plug it in again, switch USB debugging off and on, or `adb kill-server`".to_owned(),
            ),
            "no permissions" => (
                State::NoPermission,
                "may not be opened by this user",
                "install udev rules for Android devices (Debian: `apt install android-sdk-platform-tools-common`, and join the group plugdev), then plug it in again".to_owned(),
            ),
            "recovery" | "sideload" | "rescue" | "bootloader" | "host" => {
                (State::OtherMode, "isn't in its normal mode", "restart it: `adb reboot`, or by its power button".to_owned())
            }
            _ => (State::Failed, "can't be used", "see what `adb devices -l` says of it".to_owned()),
        };
        Some(Unready::new(state, format!("phone {serial} {what} (adb: {})", self.state), remedy))
    }
}

/// A device at an address of a network: `adb connect` reaches it.
fn is_address(serial: &str) -> bool {
    serial.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn last_line(text: &str) -> String {
    printable(text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing"))
}

impl Adb {
    /// The phone with this serial number, else the one that the environment names (`ANDROID_SERIAL`), else the only one.
    pub(crate) fn find(serial: Option<&str>) -> Result<Self, Unready> {
        let named =
            serial.map(str::to_owned).or_else(|| env::var("ANDROID_SERIAL").ok().filter(|serial| !serial.is_empty()));
        if let Some(serial) = named {
            let phone = Self { serial };
            return match phone.diagnose() {
                // It may have been connected to before this adb was started.
                Some(_) if is_address(&phone.serial) => {
                    phone.revive();
                    phone.diagnose().map_or(Ok(phone), Err)
                }
                Some(unready) => Err(unready),
                None => Ok(phone),
            };
        }
        let all = listed()?;
        let serials = || all.iter().map(|listed| listed.serial.as_str()).collect::<Vec<_>>().join(", ");
        match all.as_slice() {
            [] => Err(Unready::new(
                State::Absent,
                "adb sees no phone",
                "plug it in, switch on USB debugging in its developer options, and accept its question; over the network: `adb pair`, `adb connect`",
            )),
            [only] => only.unready().map_or(Ok(Self { serial: only.serial.clone() }), Err),
            several => {
                let ready: Vec<&Listed> = several.iter().filter(|listed| listed.state == "device").collect();
                match ready.as_slice() {
                    [only] => Ok(Self { serial: only.serial.clone() }),
                    _ => Err(Unready::new(
                        State::Ambiguous,
                        format!("adb sees {} devices ({})", several.len(), serials()),
                        "say which: serial = \"…\" in the device's configuration, or ANDROID_SERIAL",
                    )),
                }
            }
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("adb");
        command.args(["-s", &self.serial]);
        command
    }

    /// What a command that didn't succeed is to be taken for.
    fn trouble(&self, ended: Result<Ended, Failure>) -> Trouble {
        // adb's own words differ between versions; its list says how the device is.
        if let Some(unready) = self.diagnose() {
            return Trouble::Unready(unready);
        }
        match ended {
            Ok(ended) if ended.stderr.contains("doesn't support PTY args") => Trouble::Unready(Unready::new(
                State::TooOld,
                format!("phone {}: its shell tells no exit statuses (no shell_v2)", self.serial),
                "measure on a device with Android 8 (SDK 26) or newer",
            )),
            Ok(ended) => Trouble::Cut(format!("adb: {}", last_line(&ended.stderr))),
            Err(Failure::TooLong(most)) => {
                Trouble::Cut(format!("phone {} hasn't answered for {} s", self.serial, most.as_secs()))
            }
            Err(Failure::Start(error)) => Trouble::Cut(format!("adb can't be started ({error})")),
            Err(Failure::Stopped) => Trouble::stopped(&self.name()),
        }
    }
}

impl Remote for Adb {
    fn name(&self) -> String {
        format!("phone {}", printable(&self.serial))
    }

    fn default_folder(&self) -> &'static str {
        "/data/local/tmp"
    }

    fn script(&self, script: &str, most: Duration) -> Result<(String, i32), Trouble> {
        let mut command = self.command();
        // One word; a device without shell_v2 tells no exit status, this does.
        command.args(["shell", "-T", &framed(script)]);
        match run(command, Vec::new(), most) {
            Ok(ended) => unframed(&ended).ok_or_else(|| self.trouble(Ok(ended))),
            ended => Err(self.trouble(ended)),
        }
    }

    fn send(&self, file: &Path, to: &str, watch: &dyn Watch) -> Result<(), Trouble> {
        let mib = file.metadata().map_or(0, |about| about.len() >> 20);
        let mut command = self.command();
        command.arg("push").arg(file).arg(to);
        let most = PUSH.0 + PUSH.1 * mib.try_into().unwrap_or(u32::MAX);
        match run_while(command, Vec::new(), most, &|| !watch.is_stopped()) {
            Err(Failure::Stopped) => Err(Trouble::stopped(&self.name())),
            Ok(ended) if ended.status.success() => Ok(()),
            Ok(ended) => {
                let said = format!("{}\n{}", String::from_utf8_lossy(&ended.stdout), ended.stderr);
                let name = self.name();
                Err(Trouble::of_writing(&name, &said).unwrap_or_else(|| self.trouble(Ok(ended))))
            }
            ended => Err(self.trouble(ended)),
        }
    }

    fn client(&self, script: &str) -> Command {
        let mut command = self.command();
        command.args(["shell", "-T", script]);
        command
    }

    fn diagnose(&self) -> Option<Unready> {
        let all = match listed() {
            Ok(all) => all,
            Err(unready) => return Some(unready),
        };
        match all.iter().find(|listed| listed.serial == printable(&self.serial)) {
            Some(listed) => listed.unready(),
            None => {
                let serial = printable(&self.serial);
                let remedy = if is_address(&serial) {
                    let is_plain = serial.chars().all(|c| c.is_ascii_alphanumeric() || ".:-[]_".contains(c));
                    format!("`adb connect {}`", if is_plain { serial.clone() } else { word(&serial) })
                } else {
                    "plug it in, or see `adb devices -l` for what is".to_owned()
                };
                Some(Unready::new(State::Absent, format!("adb sees no phone {serial}"), remedy))
            }
        }
    }

    fn revive(&self) {
        if is_address(&self.serial) && !self.serial.starts_with('-') {
            // Without it adb says "already connected" of a device that is gone.
            let _ = adb(&["disconnect", &self.serial], SEES);
            let _ = adb(&["connect", &self.serial], SEES);
        }
    }

    fn refuses(&self, facts: &Facts) -> Option<Unready> {
        let sdk: u32 = facts.get("sdk")?.parse().ok()?;
        let release = facts.get("android").unwrap_or("?");
        (sdk < OLDEST_SDK).then(|| {
            Unready::new(
                State::TooOld,
                format!("{} has Android {release} (SDK {sdk})", self.name()),
                "measure on a device with Android 8 (SDK 26) or newer",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_adb_lists_is_told_apart() {
        let text = "* daemon started successfully\nList of devices attached\n\
            8A1Y0QBEU              device usb:1-1 product:shiba model:Pixel_8 device:shiba transport_id:3\n\
            127.0.0.1:15556        offline transport_id:1\n\
            0123456789             no permissions (missing udev rules? user is in the plugdev group); see [http://x]\n\
            X                      unauthorized usb:1-2 transport_id:4\n\n";
        let all = parsed(text);
        let states: Vec<(&str, &str)> =
            all.iter().map(|listed| (listed.serial.as_str(), listed.state.as_str())).collect();
        assert_eq!(
            states,
            [
                ("8A1Y0QBEU", "device"),
                ("127.0.0.1:15556", "offline"),
                ("0123456789", "no permissions"),
                ("X", "unauthorized")
            ]
        );
        assert_eq!(all[0].model.as_deref(), Some("Pixel_8"));
        let unready: Vec<Option<State>> =
            all.iter().map(|listed| listed.unready().map(|unready| unready.state)).collect();
        assert_eq!(unready, [None, Some(State::Offline), Some(State::NoPermission), Some(State::Unauthorized)]);
        let spaced =
            parsed("List of devices attached\nadb-1A2B-xyz (2)._adb-tls-connect._tcp device product:x model:Y\n");
        assert_eq!(
            (spaced[0].serial.as_str(), spaced[0].state.as_str()),
            ("adb-1A2B-xyz (2)._adb-tls-connect._tcp", "device")
        );
        assert_eq!(parsed("nonsense\n"), []);
    }

    #[test]
    fn every_state_that_adb_knows_has_a_remedy() {
        for state in [
            "unauthorized",
            "authorizing",
            "connecting",
            "offline",
            "recovery",
            "sideload",
            "bootloader",
            "rescue",
            "host",
            "new",
        ] {
            let unready = Listed { serial: "X".into(), state: state.into(), model: None }.unready().unwrap();
            assert!(unready.remedy.len() > 10 && unready.what.contains(state), "{unready:?}");
        }
    }
}
