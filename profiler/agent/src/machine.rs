//! The machine that the agent runs on: what it is, and which of its cores the agent uses.

use fleetfoot_protocol::{EngineError, Machine};

/// What the system tells of itself.
pub fn describe() -> Machine {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Machine {
        cpu: field("model name").or_else(|| field("Hardware")).unwrap_or_else(|| "unknown".to_owned()),
        os: format!("{} {}", std::env::consts::OS, release.trim()).trim().to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        cores: allowed().len().max(1),
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
