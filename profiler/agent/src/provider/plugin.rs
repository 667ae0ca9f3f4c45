//! Providers in libraries of their own, which ONNX Runtime 1.22 and newer load.

use std::ffi::CStr;
use std::path::Path;

use fleetfoot_protocol::EngineError;
use ort::AsPointer;
use ort::device::Device;
use ort::environment::Environment;
use ort::memory::DeviceType;
use ort::session::builder::SessionBuilder;

use super::{Provider, ProviderOptions};

/// Loads a plugin under its provider's name. Returns its name and version.
pub fn load(environment: &Environment, provider: &Provider, path: &Path) -> Result<String, EngineError> {
    let Provider { name, ort_name, remedy, .. } = provider;
    environment.register_ep_library(*ort_name, path).map_err(|error| {
        let why = error.to_string().replace('\n', " ");
        EngineError(format!("the execution provider '{name}' can't be loaded from {}: {why}", path.display()))
    })?;
    let Some(device) = device(environment, ort_name) else {
        let why = format!("the execution provider '{name}' finds no hardware that it can use; {remedy}");
        return Err(EngineError(why));
    };
    Ok(format!("{name} plugin {}", version(&device).unwrap_or("of unknown version")))
}

/// Puts a session on a plugin's best device.
pub fn append(
    builder: SessionBuilder,
    environment: &Environment,
    provider: &Provider,
    options: &ProviderOptions,
) -> Result<SessionBuilder, ort::Error> {
    let named = |(name, value): (&String, &String)| (format!("{}.{name}", provider.ort_name), value.clone());
    let options: Vec<(String, String)> = options.iter().map(named).collect();
    Ok(builder.with_devices(device(environment, provider.ort_name), Some(&options))?)
}

/// A provider's device: its NPU, else its GPU, else a CPU that stands in for one.
fn device<'e>(environment: &'e Environment, ort_name: &str) -> Option<Device<'e>> {
    let rank = |device: &Device<'_>| match device.hardware_device().ty() {
        DeviceType::NPU => 0,
        DeviceType::GPU => 1,
        _ => 2,
    };
    environment.devices().filter(|device| device.ep().is_ok_and(|name| name == ort_name)).min_by_key(rank)
}

fn version<'e>(device: &Device<'e>) -> Option<&'e str> {
    let api = ort::api();
    // SAFETY: the device is the environment's; the pairs and their texts are the device's and live as long.
    unsafe {
        let pairs = (api.EpDevice_EpMetadata)(device.ptr());
        let version = (api.GetKeyValue)(pairs, c"version".as_ptr());
        if version.is_null() { None } else { CStr::from_ptr(version).to_str().ok() }
    }
}
