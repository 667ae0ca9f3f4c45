//! Execution providers: which fleetfoot knows, which this agent was built with, and how sessions are put on one.
//!
//! A provider is one file, which says how it is named and what it takes. It is either part of the runtime's library
//! (`Home::Runtime`) or a library of its own that the runtime loads (`Home::Plugin`). Whatever can't be had is an error;
//! nothing is ever put on the CPU instead.

mod cpu;
#[cfg(feature = "plugins")]
mod plugin;

#[cfg(feature = "coreml")]
mod coreml;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "nnapi")]
mod nnapi;
#[cfg(feature = "openvino")]
mod openvino;
#[cfg(feature = "qnn")]
mod qnn;
#[cfg(feature = "tensorrt")]
mod tensorrt;
#[cfg(feature = "webgpu")]
mod webgpu;
#[cfg(feature = "xnnpack")]
mod xnnpack;

use std::collections::BTreeMap;
use std::path::Path;

use fleetfoot_protocol::{EngineError, Setup};
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::SessionBuilder;

use crate::library;

/// All that fleetfoot knows, as device configurations name them. All but `cpu` are cargo features of the same name.
const KNOWN: [&str; 9] = ["cpu", "xnnpack", "openvino", "webgpu", "cuda", "tensorrt", "coreml", "nnapi", "qnn"];

/// Those that this agent was built with.
const COMPILED: &[Provider] = &[
    cpu::PROVIDER,
    #[cfg(feature = "xnnpack")]
    xnnpack::PROVIDER,
    #[cfg(feature = "openvino")]
    openvino::PROVIDER,
    #[cfg(feature = "webgpu")]
    webgpu::PROVIDER,
    #[cfg(feature = "cuda")]
    cuda::PROVIDER,
    #[cfg(feature = "tensorrt")]
    tensorrt::PROVIDER,
    #[cfg(feature = "coreml")]
    coreml::PROVIDER,
    #[cfg(feature = "nnapi")]
    nnapi::PROVIDER,
    #[cfg(feature = "qnn")]
    qnn::PROVIDER,
];

/// Names and values, as the device configuration has them.
type ProviderOptions = BTreeMap<String, String>;

/// Puts a session on a provider of the runtime's own.
type Append = fn(SessionBuilder, &ProviderOptions) -> Result<SessionBuilder, ort::Error>;

/// What a provider's file says of it.
#[derive(Debug)]
pub struct Provider {
    /// As device configurations name it.
    pub name: &'static str,
    /// As the runtime names it.
    pub ort_name: &'static str,
    /// The options that it takes. Not all providers refuse those that they don't know.
    options: &'static [&'static str],
    /// The option that says how many threads it computes with, if there is one: the device configuration's number, unless
    /// the option is given.
    threads: Option<&'static str>,
    /// Where it may be; the first that is there counts.
    homes: &'static [Home],
    /// What a user does to have it.
    remedy: &'static str,
}

/// Where a provider may be.
#[derive(Debug)]
enum Home {
    /// In the runtime's library.
    Runtime(Append),
    /// In a library of its own with this name, without what the system puts around it (`lib….so`).
    #[cfg(feature = "plugins")]
    Plugin(&'static str),
}

/// A provider in a running runtime.
#[derive(Debug)]
pub struct Attached {
    /// Which.
    pub provider: &'static Provider,
    /// Name and version of its own library, where it has one.
    pub plugin: Option<String>,
    options: ProviderOptions,
    append: Option<Append>,
}

/// The provider that a device configuration names.
pub fn by_name(name: &str) -> Result<&'static Provider, EngineError> {
    if let Some(provider) = COMPILED.iter().find(|provider| provider.name == name) {
        return Ok(provider);
    }
    Err(EngineError(if KNOWN.contains(&name) {
        let built: Vec<&str> = COMPILED.iter().map(|provider| provider.name).collect();
        format!(
            "this agent was built without the execution provider '{name}' (it has {}): build it with `cargo build \
             --release -p fleetfoot-agent --features {name}`",
            built.join(", ")
        )
    } else {
        format!("unknown execution provider '{name}': wanted one of {}", KNOWN.join(", "))
    }))
}

impl Provider {
    /// Whether it is the runtime's own CPU kernels, to which other providers fall back.
    pub fn is_cpu(&self) -> bool {
        self.ort_name == cpu::PROVIDER.ort_name
    }

    /// Whether something else than the processor may compute.
    pub fn uses_accelerators(&self) -> bool {
        !matches!(self.name, "cpu" | "xnnpack")
    }

    /// The setup's options for it, with the number of threads among them.
    pub fn options(&self, setup: &Setup) -> Result<ProviderOptions, EngineError> {
        let mut options = setup.provider_options.clone();
        for (name, value) in &options {
            if !self.options.contains(&name.as_str()) {
                let takes = if self.options.is_empty() { "none".to_owned() } else { self.options.join(", ") };
                let why = format!("the execution provider '{}' has no option '{name}': it takes {takes}", self.name);
                return Err(EngineError(why));
            }
            if value.contains('\0') {
                return Err(EngineError(format!("provider option {name}: a value with a zero byte")));
            }
        }
        if let Some(threads) = self.threads {
            options.entry(threads.to_owned()).or_insert_with(|| setup.threads.to_string());
        }
        Ok(options)
    }

    /// Finds the provider in the runtime or beside it, and tries whether sessions can be put on it.
    pub fn attach(
        &'static self,
        environment: &Environment,
        runtime: &Path,
        setup: &Setup,
    ) -> Result<Attached, EngineError> {
        let options = self.options(setup)?;
        let available = library::providers()?;
        let at = |home: &Home| -> Result<Option<Attached>, EngineError> {
            let options = options.clone();
            match home {
                Home::Runtime(append) => {
                    let is_there = available.iter().any(|name| name == self.ort_name);
                    Ok(is_there.then_some(Attached { provider: self, plugin: None, options, append: Some(*append) }))
                }
                #[cfg(feature = "plugins")]
                Home::Plugin(stem) => {
                    let path = library::find_plugin(setup.provider_library.as_deref(), stem, runtime, self.name)?;
                    let plugin = path.map(|path| plugin::load(environment, self, &path)).transpose()?;
                    Ok(plugin.map(|plugin| Attached { provider: self, plugin: Some(plugin), options, append: None }))
                }
            }
        };
        let attached = self.homes.iter().find_map(|home| at(home).transpose()).ok_or_else(|| {
            let (name, has) = (self.name, available.join(", "));
            let runtime = runtime.display();
            EngineError(format!("ONNX Runtime at {runtime} has no '{name}', it has {has}; {}", self.remedy))
        })??;
        attached.append(environment)?;
        Ok(attached)
    }
}

impl Attached {
    /// A session that is to run on the provider.
    pub fn append(&self, environment: &Environment) -> Result<SessionBuilder, EngineError> {
        let builder = Session::builder(environment).map_err(|error| EngineError(format!("session: {error}")))?;
        let appended = match self.append {
            Some(append) => append(builder, &self.options),
            #[cfg(feature = "plugins")]
            None => plugin::append(builder, environment, self.provider, &self.options),
            #[cfg(not(feature = "plugins"))]
            None => Ok(builder),
        };
        appended.map_err(|error| {
            let Provider { name, remedy, .. } = self.provider;
            let why = error.to_string().replace('\n', " ");
            EngineError(format!("the execution provider '{name}' is there but can't be used: {why}; {remedy}"))
        })
    }
}

/// For providers that take any option as text.
#[cfg(any(
    feature = "xnnpack",
    feature = "openvino",
    feature = "cuda",
    feature = "tensorrt",
    feature = "coreml",
    feature = "qnn"
))]
fn append<E>(builder: SessionBuilder, options: &ProviderOptions) -> Result<SessionBuilder, ort::Error>
where
    E: ort::ep::ArbitrarilyConfigurableExecutionProvider + Default + Into<ort::ep::ExecutionProviderDispatch>,
{
    let configured = options.iter().fold(E::default(), |ep, (name, value)| ep.with_arbitrary_config(name, value));
    Ok(builder.with_execution_providers([configured.into().error_on_failure()])?)
}
