//! What a device says of itself, by one script that changes nothing there.

use std::collections::BTreeMap;
use std::time::Duration;

use super::guard;
use super::remote::Remote;
use super::shell::word;
use crate::unready::{State, Unready, printable};

/// How long a script of some lines may take.
pub(super) const SCRIPT: Duration = Duration::from_secs(20);

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

    /// Whether such an agent's folder is there, though perhaps not whole.
    pub(super) fn has_agent(&self, target: &str) -> bool {
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

    /// Model without its maker.
    pub(crate) fn product(&self) -> Option<&str> {
        let model = self.get("model")?;
        let short = self.get("maker").and_then(|maker| model.strip_prefix(maker)).map(str::trim_start);
        short.filter(|short| !short.is_empty()).or(Some(model))
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
pub(super) fn own_folder(remote: &dyn Remote, folder: Option<&str>) -> String {
    format!("{}/fleetfoot-agent", folder.unwrap_or(remote.default_folder()).trim_end_matches('/'))
}

/// The device's folder as a word of a script: below the home folder unless it is absolute.
pub(super) fn folder_word(folder: &str) -> String {
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
