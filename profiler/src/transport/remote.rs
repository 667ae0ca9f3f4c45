//! Devices that aren't this machine: what is the same over adb and over ssh.
//!
//! In the agent's folder lie `agent-DIGEST` (the agent, its ONNX Runtime and what else belongs to its build, under the digest of all
//! that, so that an agent of another version is never started), `models` (those of this run, by their digests), `kept` (what was
//! measured, until the host has it), `lock` (of the agent that measures), and while a run goes on `holder` (who that is) and on phones
//! `restore` (what was changed).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fleetfoot_protocol::{Cluster, Health};

use super::android;
use super::bundle::Bundle;
use super::guard::{self, Guard, Refused};
use super::process::{Client, KILLED};
use super::shell::{exit_of, told, word};
use super::{Connection, Link, Peer, Watch};
use crate::device::{Cores, DeviceConfig, Hygiene};
use crate::unique::unique_name;
use crate::unready::{State, Unready, printable};

/// How long a script of some lines may take.
pub(super) const SCRIPT: Duration = Duration::from_secs(20);
/// How long a device may take to be held: another run is waited for, and what that has changed is put back first.
const HOLDS: Duration = Duration::from_secs(60);
/// How long the SHA-256 of an agent may take.
const CHECK: Duration = Duration::from_secs(120);
/// How long a device may be out of reach in the middle of a run, unless its configuration says otherwise.
pub(crate) const RECONNECT: Duration = Duration::from_secs(600);
/// Time between two looks whether it is back.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the agent is sent before the connection counts as too bad for it.
const DEPLOY_TRIES: u32 = 5;
/// The exit status of a shell's program that was killed by signal 9.
const KILLED_EXIT: i32 = 137;
/// How long an agent may take to end.
const ENDING: Duration = Duration::from_secs(2);
/// What is said of numbers from an emulator.
const MEANINGLESS: &str = "yes, the numbers mean nothing";
/// Time between two questions to a device's services, which take a while to answer.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// What models and results may need besides the agent, in KiB.
const ROOM_KIB: u64 = 32 << 10;

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
    fn unready(self, name: &str) -> Unready {
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

/// What a device says of itself, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts(BTreeMap<String, String>);

impl Facts {
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        let told = pairs.map(|(name, value)| (printable(name), printable(value)));
        Self(told.filter(|(_, value)| !value.is_empty()).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether an agent lies there, though perhaps not whole.
    fn has_agent(&self, bundle: &Bundle) -> bool {
        let target = target(bundle);
        self.get("agents").is_some_and(|agents| agents.split(' ').any(|agent| agent == target))
    }

    pub(super) fn is_android(&self) -> bool {
        self.get("sdk").is_some()
    }

    /// Maker and model.
    pub(crate) fn model(&self) -> Option<String> {
        let model = self.get("model")?;
        Some(match self.get("maker") {
            Some(maker) if !model.starts_with(maker) => format!("{maker} {model}"),
            _ => model.to_owned(),
        })
    }

    /// Cores and the highest frequencies that they are made for, in kHz, in order.
    pub(crate) fn clocks(&self) -> Vec<(usize, u64)> {
        let clock =
            |(name, khz): (&String, &String)| Some((name.strip_prefix("khz_")?.parse().ok()?, khz.parse().ok()?));
        let mut clocks: Vec<(usize, u64)> = self.0.iter().filter_map(clock).collect();
        clocks.sort_unstable();
        clocks
    }
}

/// The agent's own folder, in the one that is named: what lies in that isn't ours.
fn own_folder(remote: &dyn Remote, folder: Option<&str>) -> String {
    format!("{}/fleetfoot-agent", folder.unwrap_or(remote.default_folder()).trim_end_matches('/'))
}

/// The device's folder as a word of a script: below the home folder unless it is absolute.
fn folder_word(folder: &str) -> String {
    if folder.starts_with('/') { word(folder) } else { format!("\"$HOME\"/{}", word(folder)) }
}

/// Asks a device what it is. Nothing is written there.
fn facts_script(folder: &str) -> String {
    let (folder, guard) = (folder_word(folder), guard::NAME);
    format!(
        "f={folder}; echo machine=$(uname -m); echo kernel=$(uname -r); echo kind=$(uname -s)
command -v sha256sum > /dev/null 2>&1 || echo lacks=sha256sum
if [ -x /system/bin/getprop ]; then
for p in sdk:ro.build.version.sdk android:ro.build.version.release model:ro.product.model maker:ro.product.manufacturer soc:ro.soc.model abi:ro.product.cpu.abi; do
echo ${{p%%:*}}=$(getprop ${{p#*:}}); done
else
[ ! -r /proc/device-tree/model ] || echo model=$(tr -d '\\000' < /proc/device-tree/model)
[ ! -r /etc/os-release ] || (. /etc/os-release; echo system=$PRETTY_NAME)
fi
d=$f; while [ ! -d \"$d\" ] && [ \"$d\" != / ]; do d=$(dirname \"$d\"); done
echo own_kib=$(du -sk \"$f\" 2>/dev/null | (read a b; echo $a))
echo free_kib=$(df -Pk \"$d\" 2>/dev/null | tail -n 1 | (read a b c d e; echo $d))
[ -w \"$d\" ] || echo unwritable=yes
d=$(cd \"$d\" 2>/dev/null && pwd -P); b=; o=
while read -r x m t n y; do case \"$d/\" in \"${{m%/}}/\"*) [ ${{#m}} -lt ${{#b}} ] || {{ b=$m; o=$n; }} ;; esac; done 2>/dev/null < /proc/mounts
case \",$o,\" in *,noexec,*) echo noexec=yes ;; esac
o=; {{ read -r o x < \"$f/holder/who\"; }} 2>/dev/null
[ -z \"$o\" ] || ! grep -q {guard} \"/proc/$o/cmdline\" 2>/dev/null || echo holder=$o
for c in /sys/devices/system/cpu/cpu[0-9]*; do
[ ! -r $c/cpufreq/cpuinfo_max_freq ] || echo khz_${{c##*cpu}}=$(cat $c/cpufreq/cpuinfo_max_freq); done
[ \"$(getprop ro.kernel.qemu 2>/dev/null)$(getprop ro.boot.qemu 2>/dev/null)\" = '' ] && ! grep -q '^CPU implementer.*: 0x00' /proc/cpuinfo || echo emulated=yes
echo cores=$(ls -d /sys/devices/system/cpu/cpu[0-9]* 2>/dev/null | wc -l)
echo agents=$(ls \"$f\" 2>/dev/null | grep '^agent-' | tr '\\n' ' ')"
    )
}

/// What a device says of itself.
pub(crate) fn facts(remote: &dyn Remote, folder: Option<&str>) -> Result<Facts, Unready> {
    let folder = own_folder(remote, folder);
    let asked = remote.script(&facts_script(&folder), SCRIPT).map_err(|trouble| trouble.unready(&remote.name()))?;
    let facts = Facts::parse(&asked.0);
    if let Some(kind) = facts.get("kind").filter(|kind| *kind != "Linux") {
        let what = format!("{} runs {kind}", remote.name());
        return Err(Unready::new(
            State::WrongAbi,
            what,
            "agents for other machines are for Linux and Android; build fleetfoot on it and measure there",
        ));
    }
    if let Some(lacks) = facts.get("lacks") {
        let what = format!("{} has no {lacks}, by which what is sent is checked", remote.name());
        return Err(Unready::new(State::Unfit, what, "install coreutils or a larger busybox there"));
    }
    remote.refuses(&facts).map_or(Ok(facts), Err)
}

/// The folder of an agent's build.
fn target(bundle: &Bundle) -> String {
    format!("agent-{}", bundle.digest())
}

/// Why an agent that isn't there yet can't be sent, by the space that there was; `None` if it may.
fn lacks_room(name: &str, folder: &str, bundle: &Bundle, facts: &Facts) -> Option<Unready> {
    let kib = |name: &str| facts.get(name)?.parse::<u64>().ok();
    // Other versions make room, and what is there in part isn't sent again.
    let free = kib("free_kib")?.saturating_add(kib("own_kib").unwrap_or_default());
    let needed = bundle.bytes() / 1024 + ROOM_KIB;
    (free < needed).then(|| {
        let what =
            format!("{name} has {} MiB left for the agent in {folder}, which needs {}", free >> 10, needed >> 10);
        let remedy = "free some space on it, or name another folder in the device's configuration (folder = \"…\")";
        Unready::new(State::NoSpace, what, remedy)
    })
}

/// Why nothing can be measured on a device now, as far as that shows without anything being written or started there; `None` if it
/// seems that it can.
pub(crate) fn objection(remote: &dyn Remote, device: &DeviceConfig, facts: &Facts) -> Option<Unready> {
    let (name, folder) = (remote.name(), own_folder(remote, device.folder.as_deref()));
    if let Some(process) = facts.get("holder") {
        return Some(busy(&name, process));
    }
    let elsewhere = |why: &str| format!("name a folder {why} in the device's configuration (folder = \"…\")");
    if facts.get("unwritable").is_some() {
        let what = format!("{name} doesn't let the agent be written to {folder}");
        return Some(Unready::new(State::NotExecutable, what, elsewhere("that can be written")));
    }
    if device.device_agent.is_none() {
        if facts.get("noexec").is_some() {
            let what = format!("{name} runs no programs in {folder} (it is mounted noexec)");
            return Some(Unready::new(State::NotExecutable, what, elsewhere("whose programs may be run")));
        }
        let unready = match Bundle::find(device, facts) {
            Ok(bundle) if facts.has_agent(&bundle) => None,
            Ok(bundle) => lacks_room(&name, &folder, &bundle, facts),
            Err(unready) => Some(unready),
        };
        if unready.is_some() {
            return unready;
        }
    }
    lacks_cores(&name, device, facts)
}

/// Whether the cores are there that a configuration names.
fn lacks_cores(name: &str, device: &DeviceConfig, facts: &Facts) -> Option<Unready> {
    let unfit = |what: String| Some(Unready::new(State::Unfit, what, "choose others (cores), or leave that away"));
    match &device.cores {
        Cores::Cluster(cluster) => {
            let kinds = facts.clocks().into_iter().map(|(_, khz)| khz).collect::<BTreeSet<_>>().len();
            match (cluster, kinds) {
                (_, 0) => unfit(format!("{name} doesn't tell its cores' frequencies, so that no cluster is known")),
                (Cluster::Middle, 1 | 2) => unfit(format!("{name} has {kinds} kinds of cores and no middle ones")),
                _ => None,
            }
        }
        Cores::Numbers(cores) => {
            let count: usize = facts.get("cores")?.parse().ok().filter(|count| *count > 0)?;
            let missing = cores.iter().find(|core| **core >= count)?;
            unfit(format!("{name} has {count} cores and no core {missing}"))
        }
    }
}

fn busy(name: &str, process: &str) -> Unready {
    Unready::new(
        State::Busy,
        format!("another run measures on {name} (its process {process} there)"),
        "wait until it has ended, or end it",
    )
}

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
}

impl<R: Remote + 'static> Installed<R> {
    /// Sees to it that the agent that fits the device lies there.
    pub(super) fn new(remote: R, device: &DeviceConfig, watch: &dyn Watch) -> Result<Self, Unready> {
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
        };
        if installed.facts.get("emulated").is_some() {
            watch.tell(&format!("{} is an emulator: its numbers mean nothing", installed.remote.name()));
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
                installed.send(&bundle, watch)?;
                (installed.program, installed.about) = installed.starts(&bundle)?;
            }
        }
        Ok(installed)
    }

    /// Whether an agent that is to lie there does.
    fn check_own(&self, program: &str) -> Result<(), Unready> {
        let name = self.remote.name();
        let tried = self.remote.script(&format!("{} --version 2>&1", self.program), SCRIPT);
        match tried.map_err(|trouble| trouble.unready(&name))? {
            (said, 0) if said.starts_with("fleetfoot-agent ") => Ok(()),
            (said, _) => Err(Unready::new(
                State::NotExecutable,
                format!("{} on {name} is no agent that runs ({})", printable(program), printable(&said)),
                "put one there, or leave device_agent away: then one is sent",
            )),
        }
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
            guard.word("fleetfoot-held", HOLDS)?;
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
            let told = guard.word("fleetfoot-ready", SCRIPT).unwrap_or_else(|_| "not told".to_owned());
            *set = if told.is_empty() { "none".to_owned() } else { told };
        }
        Some(printable(set)).filter(|set| set != "none")
    }

    fn below(&self, path: &str) -> String {
        format!("{}/{}", folder_word(&self.folder), word(path))
    }

    /// The same as an argument of a program that no shell reads: below the home folder where it isn't absolute.
    fn absolute(&self, path: &str) -> Result<String, Unready> {
        if self.folder.starts_with('/') {
            return Ok(format!("{}/{path}", self.folder));
        }
        let name = self.remote.name();
        let (home, _) = self.remote.script("echo \"$HOME\"", SCRIPT).map_err(|trouble| trouble.unready(&name))?;
        Ok(format!("{}/{}/{path}", home.trim_end(), self.folder))
    }

    /// Sends the bundle, unless it is there. What is half there counts for nothing, and goes on from there.
    fn send(&self, bundle: &Bundle, watch: &dyn Watch) -> Result<(), Unready> {
        let (name, target) = (self.remote.name(), target(bundle));
        if self.facts.has_agent(bundle) && self.is_whole(bundle, &target)? {
            return Ok(());
        }
        if let Some(unready) = lacks_room(&name, &self.folder, bundle, &self.facts) {
            return Err(unready);
        }
        watch.tell(&format!("sending {} to {name} ({} MiB)", bundle.about, bundle.bytes().div_ceil(1 << 20)));
        let mut tries = 0;
        loop {
            tries += 1;
            match self.send_once(bundle, &target, watch) {
                Ok(()) => return Ok(()),
                Err(Trouble::Cut(why)) if tries < DEPLOY_TRIES => {
                    watch.tell(&format!("the connection to {name} broke off ({why}); trying again"));
                    self.wait(watch)?;
                }
                // A device that vanished meanwhile.
                Err(Trouble::Unready(unready)) if tries < DEPLOY_TRIES && unready.state.is_out_of_reach() => {
                    watch.tell(&format!("{}; waiting for it", unready.what));
                    self.wait(watch)?;
                }
                Err(trouble) => return Err(trouble.unready(&name)),
            }
        }
    }

    /// Whether all files of a bundle that was sent are still there, as long as they were. One that isn't whole is deleted.
    fn is_whole(&self, bundle: &Bundle, target: &str) -> Result<bool, Unready> {
        let (name, whole) = (self.remote.name(), self.below(target));
        let words: Vec<String> = bundle.files.iter().map(|file| word(&file.name)).collect();
        let counted =
            format!("cd {whole} && for f in {}; do echo $(wc -c < \"$f\") \"$f\"; done 2>/dev/null", words.join(" "));
        let (said, _) = self.remote.script(&counted, SCRIPT).map_err(|trouble| trouble.unready(&name))?;
        let is_there =
            |file: &super::bundle::Piece| said.lines().any(|line| line == format!("{} {}", file.bytes, file.name));
        if bundle.files.iter().all(is_there) {
            return Ok(true);
        }
        self.remote.script(&format!("rm -rf {whole}"), SCRIPT).map_err(|trouble| trouble.unready(&name))?;
        Ok(false)
    }

    fn send_once(&self, bundle: &Bundle, target: &str, watch: &dyn Watch) -> Result<(), Trouble> {
        let name = self.remote.name();
        let (part, whole) = (self.below(&format!("{target}.part")), self.below(target));
        let folder = folder_word(&self.folder);
        // Agents of other versions are gone with their space.
        let prepare = format!(
            "umask 077; mkdir -p {folder} && cd {folder} && for a in agent-????????????????*; do [ \"$a\" = {} ] || rm -rf \"./$a\"; done; mkdir -p {part} 2>&1",
            word(&format!("{target}.part"))
        );
        let (said, status) = self.remote.script(&prepare, SCRIPT)?;
        if status != 0 {
            let failed = || {
                Trouble::Unready(Unready::new(
                    State::NotExecutable,
                    format!("{name}: {} can't be made ({})", self.folder, printable(&said)),
                    "name a folder that can be written in the device's configuration (folder = \"…\")",
                ))
            };
            return Err(Trouble::of_writing(&name, &said).unwrap_or_else(failed));
        }
        let check = |names: &[&str]| {
            let words: Vec<String> = names.iter().map(|name| word(name)).collect();
            format!("cd {part} && sha256sum {} 2>/dev/null", words.join(" "))
        };
        let names: Vec<&str> = bundle.files.iter().map(|file| file.name.as_str()).collect();
        let sums = |said: &str| -> BTreeMap<String, String> {
            let lines = said.lines().filter_map(|line| line.split_once(char::is_whitespace));
            lines.map(|(sum, name)| (name.trim_start_matches([' ', '*']).to_owned(), sum.to_owned())).collect()
        };
        let (there, _) = self.remote.script(&check(&names), CHECK)?;
        let there = sums(&there);
        let is_there =
            |file: &super::bundle::Piece, there: &BTreeMap<String, String>| there.get(&file.name) == Some(&file.digest);
        for file in bundle.files.iter().filter(|file| !is_there(file, &there)) {
            let to = self.absolute(&format!("{target}.part/{}", file.name)).map_err(Trouble::Unready)?;
            self.remote.send(&file.path, &to, watch)?;
        }
        let (there, _) = self.remote.script(&check(&names), CHECK)?;
        let there = sums(&there);
        if let Some(damaged) = bundle.files.iter().find(|file| !is_there(file, &there)) {
            return Err(Trouble::Cut(format!("{} isn't whole there", damaged.name)));
        }
        let (said, status) = self.remote.script(&format!("chmod 755 {part}/* && mv {part} {whole} 2>&1"), SCRIPT)?;
        match status {
            0 => Ok(()),
            _ => Err(Trouble::Cut(format!("the agent can't be put in its place: {}", printable(&said)))),
        }
    }

    /// How the agent's program is started there: by itself, or by the loader of the libraries that lie beside it.
    fn starts(&self, bundle: &Bundle) -> Result<(String, String), Unready> {
        let (name, folder) = (self.remote.name(), self.below(&target(bundle)));
        let program = word(&format!("./{}", bundle.program));
        // The loader takes colons and semicolons of a path for separators: the folder is the one that it starts in.
        let by_loader =
            bundle.loader.as_ref().map(|loader| format!("{} --library-path . {program}", word(&format!("./{loader}"))));
        let mut said = Vec::new();
        let direct = bundle.about.replacen("a C library of its own", "the device's C library, built against one", 1);
        let ways = [(Some(program), direct), (by_loader, bundle.about.clone())];
        for (program, about) in ways.into_iter().filter_map(|(program, about)| Some((program?, about))) {
            let program = format!("cd {folder} && {program}");
            let tried = format!("{program} --version 2>&1");
            let (text, status) = self.remote.script(&tried, SCRIPT).map_err(|trouble| trouble.unready(&name))?;
            if status == 0 && text.starts_with("fleetfoot-agent ") {
                return Ok((program, about));
            }
            said.push(printable(&text));
        }
        let what = format!("{name} can't run {} in {} ({})", bundle.about, self.folder, said.join("; "));
        let (state, remedy) = if said.iter().any(|text| text.contains("Permission denied")) {
            (
                State::NotExecutable,
                "name a folder whose programs may be run in the device's configuration (folder = \"…\")".to_owned(),
            )
        } else {
            (
                State::WrongAbi,
                format!(
                    "build an agent that fits {} and name it (agent = \"…\"): docs/phones.md",
                    self.facts.get("machine").unwrap_or("it")
                ),
            )
        };
        Err(Unready::new(state, what, remedy))
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
        exit_of(&self.client.last_words().1).0.is_some()
    }
}
