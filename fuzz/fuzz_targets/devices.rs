//! Configurations of devices (TOML).

#![no_main]

use fleetfoot_profiler::DeviceConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(device) = DeviceConfig::parse(text, "device.toml") {
        let _ = (device.setup(), device.usual_context(), device.provider_with_options());
    }
});
