//! Device configurations: how a device is reached and set up.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fleetfoot_protocol::{Cluster, Fallback, Optimisation, Setup};
use fleetfoot_space::{Precision, without_mark};
use serde::{Deserialize, Serialize};

use crate::conditions::Context;
use crate::transport::is_host;

/// The configurations that ship, by name.
pub const BUILT_IN_DEVICES: [(&str, &str); 17] = [
    ("local-cpu", include_str!("../../device-configs/local-cpu.toml")),
    ("local-cpu-basic", include_str!("../../device-configs/local-cpu-basic.toml")),
    ("local-cpu-2threads", include_str!("../../device-configs/local-cpu-2threads.toml")),
    ("local-cpu-fp16", include_str!("../../device-configs/local-cpu-fp16.toml")),
    ("local-cpu-int8", include_str!("../../device-configs/local-cpu-int8.toml")),
    ("local-openvino", include_str!("../../device-configs/local-openvino.toml")),
    ("local-webgpu", include_str!("../../device-configs/local-webgpu.toml")),
    ("local-cuda", include_str!("../../device-configs/local-cuda.toml")),
    ("local-tensorrt", include_str!("../../device-configs/local-tensorrt.toml")),
    ("local-coreml", include_str!("../../device-configs/local-coreml.toml")),
    ("local-qnn-simulator", include_str!("../../device-configs/local-qnn-simulator.toml")),
    ("phone", include_str!("../../device-configs/phone.toml")),
    ("pixel-big", include_str!("../../device-configs/pixel-big.toml")),
    ("pixel-little", include_str!("../../device-configs/pixel-little.toml")),
    ("raspberry-pi", include_str!("../../device-configs/raspberry-pi.toml")),
    ("jetson", include_str!("../../device-configs/jetson.toml")),
    ("mock", include_str!("../../device-configs/mock.toml")),
];

/// How the agent is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransportKind {
    /// A process on this machine.
    Local,
    /// A phone through Android's `adb`.
    Adb,
    /// Another machine through `ssh`.
    Ssh,
    /// A simulation within fleetfoot, for tests and for trying commands out: its numbers mean nothing.
    Mock,
}

/// A device configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceConfig {
    /// Its name; where the file gives none, the file's own.
    #[serde(default)]
    pub name: String,
    /// What it is, for people.
    #[serde(default)]
    pub description: String,
    /// How the agent is reached.
    pub transport: TransportKind,
    /// Execution provider.
    #[serde(default = "default_provider")]
    pub provider: String,
    /// Options of the provider, which are passed on to it.
    #[serde(default)]
    pub provider_options: BTreeMap<String, String>,
    /// The provider's own library on the device, where it is a plugin and isn't to be found by itself.
    #[serde(default)]
    pub provider_library: Option<String>,
    /// Whether the CPU may run what the provider doesn't take.
    #[serde(default)]
    pub fallback: Fallback,
    /// Graph optimisation level.
    #[serde(default)]
    pub optimisation: Optimisation,
    /// Threads of one operator.
    #[serde(default = "default_threads")]
    pub threads: usize,
    /// Cores to pin to.
    #[serde(default)]
    pub cores: Cores,
    /// Number format of the models.
    #[serde(default)]
    pub precision: Precision,
    /// In which context units are measured for a latency table, where nobody says; absent: see
    /// [`usual_context`](Self::usual_context).
    #[serde(default)]
    pub context: Option<Context>,
    /// The runtime's library on the device.
    #[serde(default)]
    pub runtime_library: Option<String>,
    /// On this machine the agent's program; elsewhere the folder of a build of it, on this machine, that is sent there.
    #[serde(default)]
    pub agent: Option<PathBuf>,
    /// An agent that lies on another machine already: its path there.
    #[serde(default)]
    pub device_agent: Option<String>,
    /// A phone's serial number, as `adb devices` lists it; absent: the only one.
    #[serde(default)]
    pub serial: Option<String>,
    /// Another machine, as `ssh` knows it: a name of `~/.ssh/config`, an address, with `user@` in front where that is needed.
    #[serde(default)]
    pub host: Option<String>,
    /// The folder on another machine in which the agent's own, `fleetfoot-agent`, lies; in the home folder unless it is absolute.
    #[serde(default)]
    pub folder: Option<String>,
    /// How long another machine is waited for when it can't be reached in the middle of a run; absent: ten minutes.
    #[serde(default)]
    pub reconnect_seconds: Option<u64>,
    /// What is done for steady measurements.
    #[serde(default)]
    pub hygiene: Hygiene,
}

/// What is done on a device for steady measurements, and put back afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hygiene {
    /// Whether a phone's screen stays on: asleep, it lowers its clocks and stops what runs.
    pub stay_awake: bool,
    /// Whether a phone is put into its mode of clocks that it can hold (Android 11 and newer, where the maker has provided it).
    pub fixed_performance: bool,
    /// Android's thermal status above which is waited: 0 none, 1 light, 2 moderate, 3 severe.
    pub most_thermal_status: u8,
    /// Temperature of the hottest sensor above which is waited, in degrees Celsius.
    pub most_celsius: Option<f64>,
    /// Charge of the battery below which is waited, in percent, while it isn't charged.
    pub least_battery_percent: f64,
    /// How long is waited at most, each time; then measuring goes on, and what heat slowed down is left aside as far as it can be.
    pub wait_seconds: u64,
}

impl Default for Hygiene {
    fn default() -> Self {
        Self {
            stay_awake: true,
            fixed_performance: true,
            most_thermal_status: 0,
            most_celsius: None,
            least_battery_percent: 15.0,
            wait_seconds: 300,
        }
    }
}

/// Which cores a device measures on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// These; none: the agent takes the last ones in reach, as many as threads.
    Numbers(Vec<usize>),
    /// The last ones of a cluster, as many as threads.
    Cluster(Cluster),
}

impl Default for Cores {
    fn default() -> Self {
        Self::Numbers(Vec::new())
    }
}

impl Serialize for Cores {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Numbers(numbers) => numbers.serialize(serializer),
            Self::Cluster(cluster) => cluster.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Cores {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Cores;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("numbers of cores, such as [4, 5], or a cluster: \"big\", \"middle\", \"little\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Cores, E> {
                let unknown = |_| E::invalid_value(serde::de::Unexpected::Str(text), &self);
                serde_json::from_value(text.into()).map(Cores::Cluster).map_err(unknown)
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut numbers: A) -> Result<Cores, A::Error> {
                let mut cores = Vec::new();
                while let Some(core) = numbers.next_element()? {
                    cores.push(core);
                }
                Ok(Cores::Numbers(cores))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

fn default_provider() -> String {
    "cpu".to_owned()
}

fn default_threads() -> usize {
    1
}

/// A configuration that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Neither a name nor a file.
    #[error("no device '{name}': it is neither a TOML file, nor a configuration that ships ({names}), nor one in {folder}", names = BUILT_IN_DEVICES.map(|(name, _)| name).join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// Where the user's own ones are looked for.
        folder: String,
    },
    /// The file can't be read.
    #[error("device configuration {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file's text is wrong.
    #[error("device configuration {origin}: {what}")]
    Invalid {
        /// The file or the name.
        origin: String,
        /// What and where.
        what: String,
    },
    /// It computes in other numbers than a table of latencies was made in.
    #[error("the table is of {ours}, but device '{device}' computes in {theirs}: name one of {ours} with {option}")]
    OtherPrecision {
        /// The table's.
        ours: Precision,
        /// The device's.
        theirs: Precision,
        /// Its name.
        device: String,
        /// The option that names the device.
        option: &'static str,
    },
}

/// A configuration for boards of a kind, before it says which one.
const NO_HOST: &str = "wanted what `ssh` connects to (a name of ~/.ssh/config, an address, user@ in front): `fleetfoot devices add --ssh HOST` writes it";

/// The folder of the user's own device configurations, whose names are those of its files.
pub fn own_devices() -> Option<PathBuf> {
    let configured = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".config"));
    Some(configured.or_else(home)?.join("fleetfoot").join("devices"))
}

/// Execution providers on which costs solved from whole networks predicted others best (ARCHITECTURE.md). Those that compile a network
/// into one node don't tell its units apart.
const BY_NETWORKS: [&str; 2] = ["cpu", "cuda"];

impl DeviceConfig {
    /// Whether what it measures may be held against a table of this precision; `option` named it.
    pub fn check_precision(&self, ours: Precision, option: &'static str) -> Result<(), DeviceError> {
        if self.precision == ours {
            return Ok(());
        }
        Err(DeviceError::OtherPrecision { ours, theirs: self.precision, device: self.name.clone(), option })
    }

    /// A shipped configuration by name, a TOML file, or one of the user's own ([`own_devices`]) by name.
    pub fn load(name_or_path: &str) -> Result<Self, DeviceError> {
        if let Some((name, text)) = BUILT_IN_DEVICES.iter().find(|(name, _)| *name == name_or_path) {
            return Self::from_toml(text, name, name);
        }
        let own = own_devices().filter(|_| !name_or_path.contains(['/', '\\']));
        let own = own.map(|folder| folder.join(format!("{name_or_path}.toml"))).filter(|path| path.exists());
        let path = own.unwrap_or_else(|| PathBuf::from(name_or_path));
        if !path.exists() {
            let folder =
                own_devices().map_or("~/.config/fleetfoot/devices".to_owned(), |path| path.display().to_string());
            return Err(DeviceError::Unknown { name: name_or_path.to_owned(), folder });
        }
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(&path).map_err(|source| DeviceError::Io { path: shown.clone(), source })?;
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("device");
        Self::from_toml(&text, &shown, stem)
    }

    /// A configuration's text; `origin` is where it is from, for messages.
    pub fn parse(text: &str, origin: &str) -> Result<Self, DeviceError> {
        Self::from_toml(text, origin, "device")
    }

    fn from_toml(text: &str, origin: &str, default_name: &str) -> Result<Self, DeviceError> {
        let text = without_mark(text);
        let invalid = |what: String| DeviceError::Invalid { origin: origin.to_owned(), what };
        let mut config: Self = toml::from_str(text).map_err(|error| invalid(error.to_string()))?;
        if config.name.is_empty() {
            config.name = default_name.to_owned();
        }
        match config.mistake() {
            Some((key, what)) => Err(invalid(match line_of(text, key) {
                Some(line) => format!("line {line}, {key}: {what}"),
                None => format!("{key}: {what}"),
            })),
            None => Ok(config),
        }
    }

    /// The first key whose value makes no sense, and why.
    fn mistake(&self) -> Option<(&'static str, String)> {
        let text = |key: &'static str, text: &str| {
            text.chars().any(char::is_control).then(|| (key, "wanted a text without control characters".to_owned()))
        };
        let texts = [
            ("name", Some(&self.name)),
            ("description", Some(&self.description)),
            ("serial", self.serial.as_ref()),
            ("folder", self.folder.as_ref()),
            ("device_agent", self.device_agent.as_ref()),
        ];
        if let Some(mistake) = texts.into_iter().find_map(|(key, value)| text(key, value?)) {
            return Some(mistake);
        }
        if !(1..=1024).contains(&self.threads) {
            return Some(("threads", format!("threads = {}: wanted 1 to 1024", self.threads)));
        }
        if let Cores::Numbers(numbers) = &self.cores {
            if !numbers.is_empty() && numbers.len() < self.threads {
                let what =
                    format!("threads = {} on {} cores: name at least as many cores", self.threads, numbers.len());
                return Some(("cores", what));
            }
            let mut numbers = numbers.clone();
            numbers.sort_unstable();
            if let Some(twice) = numbers.windows(2).find(|pair| pair[0] == pair[1]) {
                return Some(("cores", format!("{} is named twice", twice[0])));
            }
        }
        self.mistaken_way().or_else(|| self.hygiene.mistake())
    }

    /// Keys that don't belong to how the device is reached, or lack.
    fn mistaken_way(&self) -> Option<(&'static str, String)> {
        let kind = self.transport;
        let elsewhere = matches!(kind, TransportKind::Adb | TransportKind::Ssh);
        let given = [
            ("serial", self.serial.is_some(), kind == TransportKind::Adb, "adb"),
            ("host", self.host.is_some(), kind == TransportKind::Ssh, "ssh"),
            ("folder", self.folder.is_some(), elsewhere, "adb or ssh"),
            ("device_agent", self.device_agent.is_some(), elsewhere, "adb or ssh"),
            ("reconnect_seconds", self.reconnect_seconds.is_some(), elsewhere, "adb or ssh"),
        ];
        if let Some((key, _, _, owner)) = given.into_iter().find(|(_, given, fits, _)| *given && !fits) {
            return Some((key, format!("it belongs to transport = \"{}\"", owner.replace(" or ", "\" or \""))));
        }
        if self.agent.is_some() && self.device_agent.is_some() {
            return Some(("device_agent", "there is `agent`, too: name the one that is to be used".to_owned()));
        }
        let is_missing = |text: &Option<String>| text.as_ref().is_none_or(|text| text.is_empty());
        match kind {
            TransportKind::Ssh if is_missing(&self.host) => {
                Some(("host", NO_HOST.to_owned()))
            }
            TransportKind::Ssh if !self.host.as_deref().is_some_and(is_host) => Some((
                "host",
                "wanted a host's name or address, with user@ in front where that is needed: letters, digits and . _ - @ : % [ ] + / only, no - in front".to_owned(),
            )),
            TransportKind::Adb if self.serial.as_ref().is_some_and(String::is_empty) => {
                Some(("serial", "wanted a serial number, as `adb devices` lists it".to_owned()))
            }
            _ if self.folder.as_ref().is_some_and(String::is_empty) => {
                Some(("folder", "wanted a folder for the agent's own to lie in".to_owned()))
            }
            _ => None,
        }
    }

    /// In which context units are measured for a latency table, where nobody says: what the configuration says, else whole networks
    /// on ONNX Runtime's CPU kernels, where they told most of the truth on every device that they were compared on, and units alone
    /// elsewhere.
    pub fn usual_context(&self) -> Context {
        let is_simulated = self.transport == TransportKind::Mock;
        let is_known = BY_NETWORKS.contains(&self.provider.as_str());
        let usual = if is_known && !is_simulated { Context::Network } else { Context::Cold };
        self.context.unwrap_or(usual)
    }

    /// The execution provider with its options: what measurements depend on.
    pub fn provider_with_options(&self) -> String {
        let options: Vec<String> =
            self.provider_options.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if options.is_empty() { self.provider.clone() } else { format!("{} ({})", self.provider, options.join(", ")) }
    }

    /// What the agent is asked to set up.
    pub fn setup(&self) -> Setup {
        Setup {
            library: self.runtime_library.clone(),
            provider: self.provider.clone(),
            provider_options: self.provider_options.clone(),
            provider_library: self.provider_library.clone(),
            fallback: self.fallback,
            optimisation: self.optimisation,
            threads: self.threads,
            cores: if let Cores::Numbers(numbers) = &self.cores { numbers.clone() } else { Vec::new() },
            cluster: if let Cores::Cluster(cluster) = self.cores { Some(cluster) } else { None },
        }
    }
}

impl Hygiene {
    fn mistake(&self) -> Option<(&'static str, String)> {
        if self.most_thermal_status > 6 {
            return Some(("hygiene.most_thermal_status", "wanted 0 (none) to 6 (shutdown)".to_owned()));
        }
        if self.most_celsius.is_some_and(|celsius| !(0.0..=150.0).contains(&celsius)) {
            return Some(("hygiene.most_celsius", "wanted 0 to 150 degrees".to_owned()));
        }
        let percent = self.least_battery_percent;
        (!(0.0..=100.0).contains(&percent)).then(|| ("hygiene.least_battery_percent", "wanted 0 to 100".to_owned()))
    }
}

/// The line, from 1, on which a key of a TOML text stands; keys of tables have a dot.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let (table, key) = match key.split_once('.') {
        Some((table, key)) => (document.get_ref().get(table)?.get_ref().as_table()?, key),
        None => (document.get_ref(), key),
    };
    let (found, _) = table.iter().find(|(name, _)| name.get_ref() == key)?;
    Some(text[..found.span().start].matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ships_is_right() {
        for (name, text) in BUILT_IN_DEVICES {
            let parsed = DeviceConfig::from_toml(text, name, name);
            // Which board is meant, only its owner knows.
            if name == "raspberry-pi" || name == "jetson" {
                continue;
            }
            assert!(parsed.is_ok(), "{name}: {parsed:?}");
        }
    }

    #[track_caller]
    fn refused(text: &str, wanted: &[&str]) {
        let message = DeviceConfig::from_toml(text, "mine.toml", "mine").unwrap_err().to_string();
        assert!(wanted.iter().all(|part| message.contains(part)) && message.contains("mine.toml"), "{message}");
    }

    #[test]
    fn a_mistake_is_named_with_its_file_line_and_key() {
        refused("transport = \"adb\"\n\nserail = \"X\"\n", &["line 3", "serail"]);
        refused("transport = \"carrier pigeon\"\n", &["line 1", "carrier pigeon"]);
        refused("# one\ntransport = \"adb\"\nthreads = 0\n", &["line 3, threads"]);
        refused("transport = \"local\"\nserial = \"X\"\n", &["line 2, serial", "adb"]);
        refused("transport = \"ssh\"\n", &["host"]);
        refused("transport = \"ssh\"\nhost = \"-oProxyCommand=x\"\n", &["line 2, host"]);
        refused("transport = \"ssh\"\nhost = \"a;b\"\n", &["line 2, host"]);
        refused("transport = \"adb\"\nserial = \"a\\nb\"\n", &["line 2, serial", "control"]);
        refused("transport = \"adb\"\nfolder = \"\"\n", &["line 2, folder"]);
        refused("transport = \"adb\"\ncores = \"huge\"\n", &["line 2", "huge", "big"]);
        refused("transport = \"adb\"\ncores = [1, 1]\n", &["line 2, cores", "twice"]);
        refused(
            "transport = \"adb\"\n\n[hygiene]\nmost_thermal_status = 7\n",
            &["line 4, hygiene.most_thermal_status"],
        );
        refused("transport = \"adb\"\n[hygiene]\nmost_celsius = nan\n", &["line 3", "most_celsius"]);
        refused("transport = \"adb\"\n[hygiene]\nstay_wake = true\n", &["line 3", "stay_wake"]);
    }

    #[test]
    fn cores_are_numbers_or_a_cluster() {
        let cores =
            |line: &str| DeviceConfig::from_toml(&format!("transport = \"adb\"\n{line}\n"), "x", "x").unwrap().cores;
        assert_eq!(cores(""), Cores::Numbers(vec![]));
        assert_eq!(cores("cores = [4, 6]"), Cores::Numbers(vec![4, 6]));
        assert_eq!(cores("cores = \"little\""), Cores::Cluster(Cluster::Little));
        let text = toml::to_string(&DeviceConfig::from_toml("transport = \"adb\"\ncores = \"big\"", "x", "x").unwrap());
        assert!(text.unwrap().contains("cores = \"big\""));
    }
}
