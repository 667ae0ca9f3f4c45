//! Device configurations: how a device is reached and set up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fleetfoot_protocol::{Fallback, Optimisation, Setup};
use fleetfoot_space::Precision;
use serde::{Deserialize, Serialize};

use crate::conditions::Context;

/// The configurations that ship, by name.
pub const BUILT_IN_DEVICES: [(&str, &str); 12] = [
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Cores to pin to; absent or empty: the agent takes the last ones in reach, as many as threads.
    #[serde(default)]
    pub cores: Vec<usize>,
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
    /// The folder of the agent on another machine, in the home folder unless it is absolute.
    #[serde(default)]
    pub folder: Option<String>,
    /// How long another machine is waited for when it can't be reached in the middle of a run; absent: ten minutes.
    #[serde(default)]
    pub reconnect_seconds: Option<u64>,
}

fn default_provider() -> String {
    "cpu".to_owned()
}

fn default_threads() -> usize {
    1
}

/// A device that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Neither a name nor a file.
    #[error("no device '{0}': it is neither a configuration that ships ({names}) nor a TOML file", names = BUILT_IN_DEVICES.map(|(name, _)| name).join(", "))]
    Unknown(String),
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
}

/// Execution providers on which costs solved from whole networks predicted others best (ARCHITECTURE.md). Those that compile a network
/// into one node don't tell its units apart.
const BY_NETWORKS: [&str; 2] = ["cpu", "cuda"];

impl DeviceConfig {
    /// A shipped configuration by name, or a TOML file.
    pub fn load(name_or_path: &str) -> Result<Self, DeviceError> {
        if let Some((name, text)) = BUILT_IN_DEVICES.iter().find(|(name, _)| *name == name_or_path) {
            return Self::from_toml(text, name, name);
        }
        let path = Path::new(name_or_path);
        if !path.exists() {
            return Err(DeviceError::Unknown(name_or_path.to_owned()));
        }
        let text = std::fs::read_to_string(path)
            .map_err(|source| DeviceError::Io { path: name_or_path.to_owned(), source })?;
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("device");
        Self::from_toml(&text, name_or_path, stem)
    }

    fn from_toml(text: &str, origin: &str, default_name: &str) -> Result<Self, DeviceError> {
        let invalid = |what: String| DeviceError::Invalid { origin: origin.to_owned(), what };
        let mut config: Self = toml::from_str(text).map_err(|error| invalid(error.to_string()))?;
        if config.name.is_empty() {
            config.name = default_name.to_owned();
        }
        if config.name.chars().any(char::is_control) {
            return Err(invalid("name: wanted a text without control characters".to_owned()));
        }
        if !(1..=1024).contains(&config.threads) {
            return Err(invalid(format!("threads = {}: wanted 1 to 1024", config.threads)));
        }
        if !config.cores.is_empty() && config.cores.len() < config.threads {
            let what =
                format!("threads = {} on {} cores: name at least as many cores", config.threads, config.cores.len());
            return Err(invalid(what));
        }
        let mut cores = config.cores.clone();
        cores.sort_unstable();
        if let Some(twice) = cores.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(invalid(format!("cores: {} is named twice", twice[0])));
        }
        Ok(config)
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
            cores: self.cores.clone(),
        }
    }
}
