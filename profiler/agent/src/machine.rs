//! The machine that the agent runs on: what it is, and which of its cores the agent uses.

use std::collections::BTreeSet;
use std::path::Path;

use fleetfoot_protocol::{EngineError, Machine};

use crate::files::text;

/// What the system tells of itself.
pub fn describe() -> Machine {
    let file = |path: &str| text(Path::new(path)).unwrap_or_default();
    let release = file("/proc/sys/kernel/osrelease");
    // The device tree's texts end with a 0.
    let board = file("/proc/device-tree/model");
    let chip = android_chip().unwrap_or_else(|| board.trim_end_matches('\0').trim().to_owned());
    let cpu = processor(&file("/proc/cpuinfo"), &chip);
    Machine {
        cpu: cpu.or_else(without_proc).unwrap_or_else(|| "unknown".to_owned()),
        os: format!("{} {}", std::env::consts::OS, release.trim()).trim().to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        cores: allowed().len().max(1),
        accelerators: Vec::new(),
    }
}

/// The chip of an Android device, whose device tree names many things: its maker and model.
fn android_chip() -> Option<String> {
    const GETPROP: &str = "/system/bin/getprop";
    if !Path::new(GETPROP).exists() {
        return None;
    }
    let property = |name: &str| {
        let told = std::process::Command::new(GETPROP).arg(name).stdin(std::process::Stdio::null()).output().ok()?;
        Some(String::from_utf8_lossy(&told.stdout).trim().to_owned()).filter(|value| !value.is_empty())
    };
    let model = property("ro.soc.model").or_else(|| property("ro.board.platform"))?;
    Some(property("ro.soc.manufacturer").map_or(model.clone(), |maker| format!("{maker} {model}")))
}

/// What a processor is, on systems that have no /proc: macOS, Windows.
fn without_proc() -> Option<String> {
    let name = if cfg!(target_os = "macos") {
        let asked = std::process::Command::new("sysctl").args(["-n", "machdep.cpu.brand_string"]).output().ok()?;
        String::from_utf8(asked.stdout).ok()?
    } else {
        std::env::var("PROCESSOR_IDENTIFIER").ok()?
    };
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// What a processor is by /proc/cpuinfo: its name, or that of the board that it is on, and the numbers that tell it from others of
/// that name, since virtual machines tend to be told a family's name only and ARM's cores have none.
fn processor(cpuinfo: &str, board: &str) -> Option<String> {
    let pairs =
        || cpuinfo.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name.trim(), value.trim()));
    let field = |wanted: &str| pairs().find(|(name, _)| *name == wanted).map(|(_, value)| value);
    let all = |wanted: &str| -> Vec<&str> {
        let values: BTreeSet<&str> = pairs().filter(|(name, _)| *name == wanted).map(|(_, value)| value).collect();
        values.into_iter().collect()
    };
    let numbers = match (field("cpu family"), field("model"), field("stepping")) {
        (Some(family), Some(model), Some(stepping)) => format!("family {family}, model {model}, stepping {stepping}"),
        _ => {
            // Cores may be of several kinds.
            let kinds = [("implementer", all("CPU implementer")), ("part", all("CPU part"))];
            let known = kinds.iter().filter(|(_, values)| !values.is_empty());
            known.map(|(name, values)| format!("{name} {}", values.join(" "))).collect::<Vec<_>>().join(", ")
        }
    };
    let board = Some(board).filter(|board| !board.is_empty());
    match (field("model name").or(board).or_else(|| field("Hardware")), numbers.is_empty()) {
        (Some(name), true) => Some(name.to_owned()),
        (Some(name), false) => Some(format!("{name} ({numbers})")),
        (None, true) => None,
        (None, false) => Some(numbers),
    }
}

/// Whether this system lets a process choose its cores.
const CAN_PIN: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Pins the process, before any of its threads is made, and returns the cores. Where none are named, the last of the
/// permitted ones are taken, since the first core serves most interrupts; or none, on a system that has no way to.
pub fn pin(cores: &[usize], threads: usize) -> Result<Vec<usize>, EngineError> {
    if cores.is_empty() && !CAN_PIN {
        return Ok(Vec::new());
    }
    let allowed = allowed();
    let chosen = if cores.is_empty() {
        if threads > allowed.len() {
            let why = format!("{threads} threads, but the process may run on {} cores only", allowed.len());
            return Err(EngineError(why));
        }
        allowed[allowed.len() - threads..].to_vec()
    } else {
        cores.to_vec()
    };
    set(&chosen)?;
    Ok(chosen)
}

/// Pins the calling thread alone.
pub fn pin_thread(core: usize) -> Result<(), EngineError> {
    set(&[core])
}

/// The cores that the calling thread may run on.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn allowed() -> Vec<usize> {
    // SAFETY: the set is a plain bit array that the call fills; its size is passed.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) != 0 {
            return vec![0];
        }
        (0..libc::CPU_SETSIZE as usize).filter(|&core| libc::CPU_ISSET(core, &set)).collect()
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn set(cores: &[usize]) -> Result<(), EngineError> {
    if let Some(core) = cores.iter().find(|&&core| core >= libc::CPU_SETSIZE as usize) {
        return Err(EngineError(format!("there is no core {core}")));
    }
    // SAFETY: as above; the indices are within the set.
    let done = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        cores.iter().for_each(|&core| libc::CPU_SET(core, &mut set));
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    let effective = allowed();
    if done == 0 && cores.iter().all(|core| effective.contains(core)) {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(EngineError(format!("can't pin to cores {cores:?} ({error}); cores in reach: {effective:?}")))
}

/// The cores that the system has, as far as it says so.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn allowed() -> Vec<usize> {
    (0..std::thread::available_parallelism().map_or(1, usize::from)).collect()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set(_: &[usize]) -> Result<(), EngineError> {
    Err(EngineError("this system has no way to pin a process to cores".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::processor;

    #[test]
    fn processors_of_one_name_are_told_apart() {
        let x86 = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nstepping\t: 1\n";
        let named = |cpuinfo, board, name: &str| assert_eq!(processor(cpuinfo, board).as_deref(), Some(name));
        named(x86, "", "AMD EPYC (family 25, model 17, stepping 1)");
        let phone = "processor: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd05\nprocessor: 4\nCPU implementer\t: 0x41\nCPU part\t: 0xd0d\n\nHardware\t: Qualcomm SM8350\n";
        named(phone, "", "Qualcomm SM8350 (implementer 0x41, part 0xd05 0xd0d)");
        // Several boards have the hardware's name in common.
        named(
            phone,
            "Raspberry Pi 4 Model B Rev 1.1",
            "Raspberry Pi 4 Model B Rev 1.1 (implementer 0x41, part 0xd05 0xd0d)",
        );
        named("CPU implementer : 0x41\nCPU part : 0xd0c\n", "", "implementer 0x41, part 0xd0c");
        named("model name : X\n", "a board", "X");
        assert_eq!(processor("", ""), None);
    }
}
