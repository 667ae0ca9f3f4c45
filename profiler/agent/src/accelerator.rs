//! What else than the processor the machine computes with: what it is, from what Linux and Android show of it, and the state of
//! NVIDIA's GPUs, which only their own library tells (NVML).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fleetfoot_protocol::Health;

use crate::files::{entries, text};

/// The accelerators' names with their drivers' versions, as far as they are known, sorted; those that are there several times with
/// their number.
pub fn describe() -> Vec<String> {
    describe_below(Path::new("/"))
}

fn describe_below(root: &Path) -> Vec<String> {
    let nvidia = nvidia(root);
    let knows_nvidia = !nvidia.is_empty();
    let others = pci(root).into_iter().filter(|device| !(knows_nvidia && device.starts_with(NVIDIA)));
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for name in nvidia.into_iter().chain(others).chain(mobile(root)) {
        *counts.entry(name).or_default() += 1;
    }
    counts.into_iter().map(|(name, count)| if count == 1 { name } else { format!("{count} x {name}") }).collect()
}

/// How a device of NVIDIA's begins.
const NVIDIA: &str = "10de:";
/// Classes of PCI devices, as far as they are looked at: display controllers and processing accelerators.
const CLASSES: [&str; 2] = ["0x03", "0x12"];
/// Displays that a virtual machine's host makes up: Bochs, Cirrus, QXL, VMware, Hyper-V.
const NO_ACCELERATORS: [&str; 5] = ["1234:", "1013:", "1b36:", "15ad:", "1414:"];

/// By NVIDIA's driver.
fn nvidia(root: &Path) -> Vec<String> {
    let driver = root.join("proc/driver/nvidia");
    let module = text(&root.join("sys/module/nvidia/version")).filter(|version| !version.is_empty());
    // "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue …"
    let version = module.or_else(|| {
        let version = text(&driver.join("version"))?;
        let numbers = |word: &&str| word.contains('.') && word.split('.').all(|part| part.parse::<u32>().is_ok());
        version.lines().next()?.split_whitespace().find(numbers).map(str::to_owned)
    });
    let version = version.map(|version| format!(", driver {version}")).unwrap_or_default();
    let model = |gpu: PathBuf| {
        let information = text(&gpu.join("information"))?;
        let model = information.lines().find_map(|line| line.strip_prefix("Model:"))?.trim();
        Some(format!("{model}{version}"))
    };
    entries(&driver.join("gpus")).into_iter().filter_map(model).collect()
}

/// By the PCI bus: vendor and device, and whose driver it has.
fn pci(root: &Path) -> Vec<String> {
    let name = |device: PathBuf| {
        let class = text(&device.join("class"))?;
        if !CLASSES.iter().any(|wanted| class.starts_with(wanted)) {
            return None;
        }
        let number = |name: &str| Some(text(&device.join(name))?.trim_start_matches("0x").to_owned());
        let name = format!("{}:{}", number("vendor")?, number("device")?);
        if NO_ACCELERATORS.iter().any(|virtual_one| name.starts_with(virtual_one)) {
            return None;
        }
        let driver = fs::read_link(device.join("driver")).ok();
        match driver.as_deref().and_then(Path::file_name) {
            Some(driver) => Some(format!("{name} ({})", driver.to_string_lossy())),
            None => Some(name),
        }
    };
    entries(&root.join("sys/bus/pci/devices")).into_iter().filter_map(name).collect()
}

/// By the drivers of phones' and boards' GPUs: Adreno and Mali.
fn mobile(root: &Path) -> Vec<String> {
    let adreno = text(&root.join("sys/class/kgsl/kgsl-3d0/gpu_model"));
    // "Mali-G78 24 cores r0p1 0x9202"
    let mali = text(&root.join("sys/class/misc/mali0/device/gpuinfo"));
    let printable = |name: String| name.chars().filter(char::is_ascii).collect::<String>();
    [adreno, mali].into_iter().flatten().filter(|name| !name.is_empty()).map(printable).collect()
}

/// The library that tells the state of NVIDIA's GPUs, where there is one.
pub struct Monitor {
    #[cfg(feature = "nvml")]
    nvml: Option<nvml_wrapper::Nvml>,
}

impl Monitor {
    /// Loads the library.
    pub fn open() -> Self {
        Self {
            #[cfg(feature = "nvml")]
            nvml: nvml_wrapper::Nvml::init().ok(),
        }
    }

    /// Adds what the GPUs show: their state, their temperatures, their meters of energy.
    pub fn look(&self, health: &mut Health) {
        #[cfg(feature = "nvml")]
        if let Some(nvml) = &self.nvml {
            let count = nvml.device_count().unwrap_or_default();
            let gpus = (0..count).filter_map(|index| Some((index, nvml.device_by_index(index).ok()?)));
            gpus.for_each(|(index, gpu)| look_at(&gpu, index, health));
        }
        #[cfg(not(feature = "nvml"))]
        let _ = health;
    }
}

#[cfg(feature = "nvml")]
fn look_at(gpu: &nvml_wrapper::Device<'_>, index: u32, health: &mut Health) {
    use fleetfoot_protocol::{Accelerator, EnergyMeter};
    use nvml_wrapper::bitmasks::device::ThrottleReasons;
    use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};

    let heat = ThrottleReasons::SW_THERMAL_SLOWDOWN | ThrottleReasons::HW_THERMAL_SLOWDOWN;
    let power = ThrottleReasons::SW_POWER_CAP | ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN;
    let reasons = gpu.current_throttle_reasons().ok();
    let slowed_by = |by: ThrottleReasons| reasons.map(|reasons| reasons.intersects(by));
    let name = format!("GPU {index}");
    health
        .temperatures
        .extend(gpu.temperature(TemperatureSensor::Gpu).ok().map(|celsius| (name.clone(), f64::from(celsius))));
    // In millijoules since the driver was loaded.
    let meter = gpu.total_energy_consumption().ok().map(|millijoules| EnergyMeter {
        part: name.clone(),
        microjoules: millijoules.saturating_mul(1000),
        wraps_at: u64::MAX,
    });
    health.energy.extend(meter);
    // Between processes its driver forgets the GPU, and wakes it anew; only Linux's tells whether it does.
    #[cfg(target_os = "linux")]
    let is_kept_awake = gpu.is_in_persistent_mode().ok();
    #[cfg(not(target_os = "linux"))]
    let is_kept_awake = None;
    health.accelerators.push(Accelerator {
        name,
        processes: gpu.running_compute_processes_count().ok(),
        mhz: gpu.clock_info(Clock::SM).ok(),
        slowed_by_heat: slowed_by(heat),
        slowed_by_power: slowed_by(power),
        is_kept_awake,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::root;

    #[test]
    fn gpus_are_told_by_their_drivers_and_else_by_the_bus() {
        let pci = "sys/bus/pci/devices";
        let device = |slot: &str, name: &str| format!("{pci}/{slot}/{name}");
        let files = [
            ("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t\t NVIDIA A10\nIRQ:   \t\t 1\n"),
            ("proc/driver/nvidia/gpus/0000:02:00.0/information", "Model: \t\t NVIDIA A10\n"),
            (
                "proc/driver/nvidia/version",
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue\nGCC version: gcc 13.3.0\n",
            ),
            (&device("0", "class"), "0x030200\n"),
            (&device("0", "vendor"), "0x10de\n"),
            (&device("0", "device"), "0x2236\n"),
            (&device("1", "class"), "0x030000\n"),
            (&device("1", "vendor"), "0x8086\n"),
            (&device("1", "device"), "0x46a6\n"),
            (&device("2", "class"), "0x020000\n"),
            (&device("2", "vendor"), "0x8086\n"),
            (&device("2", "device"), "0x1234\n"),
            (&device("3", "class"), "0x030000\n"),
            (&device("3", "vendor"), "0x1234\n"),
            (&device("3", "device"), "0x1111\n"),
            ("sys/class/misc/mali0/device/gpuinfo", "Mali-G78 24 cores r0p1 0x9202\n"),
        ];
        let all = root(&files);
        let expected = ["8086:46a6", "Mali-G78 24 cores r0p1 0x9202", "2 x NVIDIA A10, driver 580.95.05"];
        assert_eq!(describe_below(all.path()), expected);
        // Without NVIDIA's driver its devices are those of the bus.
        let without = root(&files[3..6]);
        assert_eq!(describe_below(without.path()), ["10de:2236"]);
        assert!(describe_below(root(&[("proc/version", "x")]).path()).is_empty());
    }
}
