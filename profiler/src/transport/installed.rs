//! A device with an agent on it.
//!
//! In the agent's folder lie `agent-DIGEST` (the agent, its ONNX Runtime and what else belongs to its build, under the digest of all
//! that, so that an agent of another version is never started), `models` (those of this run, by their digests), `kept` (what was
//! measured, until the host has it), `lock` (of the agent that measures), and while a run goes on `holder` (who that is) and on phones
//! `restore` (what was changed).

mod sending;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fleetfoot_protocol::Health;

use super::android;
use super::bundle::Bundle;
use super::facts::{Facts, SCRIPT, facts, folder_word, own_folder};
use super::guard::{self, Guard, Refused};
use super::process::{Client, KILLED};
use super::readiness::busy;
use super::remote::{Remote, Trouble};
use super::shell::{exit_of, told};
use super::{Connection, Link, Peer, Watch};
use crate::device::{DeviceConfig, Hygiene};
use crate::unique::unique_name;
use crate::unready::{State, Unready, printable};

/// How long a device may take to be held: another run is waited for, and what that has changed is put back first.
const HOLDS: Duration = Duration::from_secs(60);
/// How long a device may be out of reach in the middle of a run, unless its configuration says otherwise.
pub(crate) const RECONNECT: Duration = Duration::from_secs(600);
/// Time between two looks whether it is back.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The exit status of a shell's program that was killed by signal 9.
const KILLED_EXIT: i32 = 137;
/// How long an agent may take to end.
const ENDING: Duration = Duration::from_secs(2);
/// What is said of numbers from an emulator.
const MEANINGLESS: &str = "yes, the numbers mean nothing";
/// Time between two questions to a device's services, which take a while to answer.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// A device with an agent on it.
pub(super) struct Installed<R: Remote> {
    remote: R,
    folder: String,
    /// The agent's program with what starts it, in a script.
    program: String,
    facts: Facts,
    about: String,
    reconnect: Duration,
    hygiene: Hygiene,
    /// This host's, by which its own guards and agents are known there.
    token: String,
    /// What holds the device and a phone's settings, and what it has set.
    guard: Mutex<Option<(Guard, String)>>,
    /// What the device's services told last.
    told: Mutex<Option<(Instant, String)>>,
    /// Who waits.
    watch: Arc<dyn Watch>,
}

impl<R: Remote + 'static> Installed<R> {
    /// Sees to it that the agent that fits the device lies there.
    pub(super) fn new(remote: R, device: &DeviceConfig, watch: Arc<dyn Watch>) -> Result<Self, Unready> {
        let folder = own_folder(&remote, device.folder.as_deref());
        let facts = facts(&remote, device.folder.as_deref())?;
        let reconnect = device.reconnect_seconds.map_or(RECONNECT, Duration::from_secs);
        let mut installed = Self {
            remote,
            folder,
            program: String::new(),
            facts,
            about: String::new(),
            reconnect,
            hygiene: device.hygiene.clone(),
            token: unique_name()[..16].to_owned(),
            guard: Mutex::default(),
            told: Mutex::default(),
            watch,
        };
        if installed.facts.get("emulated").is_some() {
            installed.watch.tell(&format!("{} is an emulator: its numbers mean nothing", installed.remote.name()));
        }
        // Nothing is written there before the device is held; while the agent is sent the settings are made.
        installed.hold()?;
        match &device.device_agent {
            Some(program) => {
                installed.program = folder_word(program);
                installed.check_own(program)?;
                installed.about = format!("the device's own {}", printable(program));
            }
            None => {
                let bundle = Bundle::find(device, &installed.facts)?;
                installed.send(&bundle)?;
                (installed.program, installed.about) = installed.starts(&bundle)?;
            }
        }
        Ok(installed)
    }

    /// Holds the device, and makes a phone's settings, unless they are held.
    fn hold(&self) -> Result<(), Unready> {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.as_mut().is_some_and(|(guard, _)| guard.is_alive()) {
            return Ok(());
        }
        *guard = None;
        let is_phone = self.facts.is_android();
        let settings = if is_phone { android::settings(&self.hygiene) } else { guard::NO_SETTINGS.to_owned() };
        let script = guard::script(&folder_word(&self.folder), &self.token, &settings);
        let started = self.remote.guard(&script).and_then(|mut guard| {
            guard.word("fleetfoot-held", HOLDS, &*self.watch)?;
            Ok(guard)
        });
        *guard = Some((started.map_err(|refused| self.unheld(refused))?, String::new()));
        Ok(())
    }

    fn unheld(&self, refused: Refused) -> Unready {
        let name = self.remote.name();
        match refused {
            Refused::Busy(process) => busy(&name, &process),
            Refused::Start(error) => Unready::new(
                State::NoClient,
                format!("{name}: {error}"),
                "see what the program that reaches it says by itself",
            ),
            Refused::Ended(said) => match Trouble::of_writing(&name, &said) {
                Some(trouble) => trouble.unready(&name),
                None => self.remote.diagnose().unwrap_or_else(|| Trouble::Cut(printable(&said)).unready(&name)),
            },
            Refused::TooLong(most) => {
                let slow = || Trouble::Cut(format!("it hasn't answered for {} s", most.as_secs())).unready(&name);
                self.remote.diagnose().unwrap_or_else(slow)
            }
        }
    }

    /// Waits until the settings are made: what they are.
    fn held(&self) -> Option<String> {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, set) = guard.as_mut()?;
        if set.is_empty() {
            let told = guard.word("fleetfoot-ready", SCRIPT, &*self.watch).unwrap_or_else(|_| "not told".to_owned());
            *set = if told.is_empty() { "none".to_owned() } else { told };
        }
        Some(printable(set)).filter(|set| set != "none")
    }
}

impl<R: Remote + 'static> Link for Installed<R> {
    fn connect(&self) -> Result<Connection, Unready> {
        self.hold()?;
        self.held();
        let (name, folder, token) = (self.remote.name(), folder_word(&self.folder), &self.token);
        // Where temporary files may lie isn't the same everywhere.
        let agent = format!("{} --folder {folder} --host {token}", self.program);
        let before = format!("umask 077; mkdir -p {folder}/tmp; export TMPDIR={folder}/tmp");
        let client = self.remote.client(&format!("{before}; {}", told(&agent)));
        let (client, from, to) = Client::start(client, ENDING).map_err(|error| {
            let remedy = "see what the program that reaches it says by itself";
            Unready::new(State::NoClient, format!("{name}: {error}"), remedy)
        })?;
        Ok(Connection { from: Box::new(from), to: Box::new(to), peer: Box::new(FarAgent { name, client }) })
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn is_there(&self) -> bool {
        self.remote.script("true", SCRIPT / 2).is_ok()
    }

    fn wait(&self, watch: &dyn Watch) -> Result<(), Unready> {
        let began = Instant::now();
        loop {
            if self.is_there() {
                return Ok(());
            }
            if watch.is_stopped() || began.elapsed() > self.reconnect {
                let name = self.remote.name();
                let lost =
                    || Unready::new(State::Offline, format!("{name} is connected and doesn't answer"), "see to it");
                let Unready { state, what, remedy } = self.remote.diagnose().unwrap_or_else(lost);
                let what = format!("{what}, for {} s now", began.elapsed().as_secs());
                return Err(Unready::new(state, what, remedy));
            }
            self.remote.revive();
            thread::sleep(LOOK_EVERY);
        }
    }

    fn complement(&self, health: &mut Health) {
        if !self.facts.is_android() {
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.as_ref().is_none_or(|(at, _)| at.elapsed() >= ASK_EVERY) {
            // A connection that breaks off shows by the agent's.
            let now = self.remote.script(android::STATE, SCRIPT).map_or(String::new(), |(said, _)| said);
            *told = Some((Instant::now(), now));
        }
        if let Some((_, told)) = told.as_ref() {
            android::complement(health, told);
        }
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let told = |name: &'static str, fact: &str| self.facts.get(fact).map(|value| (name, value.to_owned()));
        let model = self.facts.model().map(|model| ("model", model));
        let android = self.facts.get("android").zip(self.facts.get("sdk"));
        let android = android.map(|(release, sdk)| ("android", format!("{release} (SDK {sdk})")));
        let agent = Some(("agent", self.about.clone()));
        let emulated = self.facts.get("emulated").map(|_| ("emulated", MEANINGLESS.to_owned()));
        let hygiene = self.held().map(|set| ("hygiene", set));
        let all = [model, told("soc", "soc"), android, told("system", "system"), agent, hygiene, emulated];
        all.into_iter().flatten().collect()
    }
}

impl<R: Remote> Drop for Installed<R> {
    fn drop(&mut self) {
        // The agent, which is dropped before, has ended: what only a run needs goes. A device that is gone keeps it for the next one.
        // Whoever doesn't hold the device deletes nothing there.
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.as_mut().is_some_and(|(guard, _)| guard.is_alive()) {
            let folder = folder_word(&self.folder);
            let _ = self.remote.script(&format!("rm -rf {folder}/models {folder}/tmp"), SCRIPT);
        }
        // Before what leads there: a shared connection waits for all that go through it.
        *guard = None;
    }
}

/// An agent on another machine, by the client through which it is spoken to.
struct FarAgent {
    name: String,
    client: Client,
}

impl Peer for FarAgent {
    fn epitaph(&mut self) -> String {
        let (status, talk) = self.client.last_words();
        let name = &self.name;
        let (exit, last) = exit_of(&talk);
        let last = last.map(|line| format!("; last was said: {}", printable(line))).unwrap_or_default();
        match (exit, status) {
            (Some(KILLED_EXIT), _) => format!("the agent on {name} was {KILLED}{last}"),
            (Some(exit), _) => format!("the agent on {name} ended (exit status {exit}){last}"),
            (None, Some(_)) => format!("the connection to {name} broke off{last}"),
            (None, None) => format!("the agent on {name} closed its output{last}"),
        }
    }

    fn ended_by_itself(&mut self) -> bool {
        // One that hears nothing of its host any more ends as if it had been told to: another one may be started.
        exit_of(&self.client.last_words().1).0.is_some_and(|status| status != 0)
    }
}
