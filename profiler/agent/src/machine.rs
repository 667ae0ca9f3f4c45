//! The machine that the agent runs on: what it is, and which of its cores the agent uses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fleetfoot_protocol::{Cluster, EngineError, Machine, Setup};

use crate::files::{entries, number, text};

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
        clusters: clusters(Path::new("/sys/devices/system/cpu")),
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

/// All cores by the highest frequency that they are made for, in kHz.
fn clusters(cpu: &Path) -> Vec<(u64, Vec<usize>)> {
    let mut clusters: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for folder in entries(cpu) {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let core = name.strip_prefix("cpu").and_then(|number| number.parse().ok());
        let khz = number(&folder.join("cpufreq/cpuinfo_max_freq"));
        if let Some((core, khz)) = core.zip(khz) {
            clusters.entry(khz).or_default().push(core);
        }
    }
    clusters.values_mut().for_each(|cores| cores.sort_unstable());
    clusters.into_iter().collect()
}

/// The cores of a cluster.
fn of_cluster(cluster: Cluster, clusters: &[(u64, Vec<usize>)]) -> Result<Vec<usize>, EngineError> {
    let (chosen, name) = match (cluster, clusters) {
        (_, []) => {
            let why = "the device doesn't tell its cores' frequencies, so that no cluster is known: name cores by number (cores = [4, 5])";
            return Err(EngineError(why.to_owned()));
        }
        (Cluster::Big, [.., last]) => (std::slice::from_ref(last), "big"),
        (Cluster::Little, [first, ..]) => (std::slice::from_ref(first), "little"),
        (Cluster::Middle, [_, middle @ .., _]) => (middle, "middle"),
        (Cluster::Middle, _) => (&[][..], "middle"),
    };
    let cores: Vec<usize> = chosen.iter().flat_map(|(_, cores)| cores.iter().copied()).collect();
    if cores.is_empty() {
        let count = clusters.len();
        return Err(EngineError(format!(
            "the device has {count} kinds of cores and no {name} ones: choose others (cores)"
        )));
    }
    Ok(cores)
}

/// Whether this system lets a process choose its cores.
const CAN_PIN: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Pins the process, before any of its threads is made, and returns the cores. Where none are named, the last of the
/// permitted ones are taken, since the first core serves most interrupts; or none, on a system that has no way to.
pub fn pin(setup: &Setup, clusters: &[(u64, Vec<usize>)]) -> Result<Vec<usize>, EngineError> {
    let Setup { cores, cluster, threads, .. } = setup;
    if cores.is_empty() && cluster.is_none() && !CAN_PIN {
        return Ok(Vec::new());
    }
    let chosen = if cores.is_empty() {
        let mut allowed = allowed();
        if let Some(cluster) = cluster {
            let wanted = of_cluster(*cluster, clusters)?;
            allowed.retain(|core| wanted.contains(core));
        }
        if *threads > allowed.len() {
            let of_them = if cluster.is_some() { " of that cluster" } else { "" };
            let why = format!("{threads} threads, but the process may run on {} cores{of_them} only", allowed.len());
            return Err(EngineError(why));
        }
        allowed[allowed.len() - threads..].to_vec()
    } else {
        cores.clone()
    };
    set(&chosen)?;
    Ok(chosen)
}

/// Pins the calling thread alone.
pub fn pin_thread(core: usize) -> Result<(), EngineError> {
    set(&[core])
}

/// Cores that a set of them can hold: C libraries differ in the number's type.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MOST_CORES: usize = libc::CPU_SETSIZE as _;

/// The cores that the calling thread may run on.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn allowed() -> Vec<usize> {
    // SAFETY: the set is a plain bit array that the call fills; its size is passed.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) != 0 {
            return vec![0];
        }
        (0..MOST_CORES).filter(|&core| libc::CPU_ISSET(core, &set)).collect()
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn set(cores: &[usize]) -> Result<(), EngineError> {
    if let Some(core) = cores.iter().find(|&&core| core >= MOST_CORES) {
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

/// The process' threads but the first, by their numbers: those that were there before the runtime's (a watch, an emulator's own).
pub fn helpers() -> Vec<String> {
    let name = |task: &PathBuf| task.file_name().map(|name| name.to_string_lossy().into_owned());
    let tasks = entries(Path::new("/proc/self/task")).iter().filter_map(name).collect::<Vec<_>>();
    tasks.into_iter().filter(|task| *task != std::process::id().to_string()).collect()
}

/// A thread of the process that may run elsewhere than on these cores, and where it may; `None` if there is none. The helpers don't
/// count.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn escaped(cores: &[usize], helpers: &[String]) -> Option<String> {
    let tasks = entries(Path::new("/proc/self/task")).into_iter();
    let counts = |task: &PathBuf| !helpers.iter().any(|helper| task.ends_with(helper));
    tasks.filter(counts).filter_map(|task| text(&task.join("status"))).find_map(|status| {
        let field = |wanted: &str| status.lines().find_map(|line| line.strip_prefix(wanted)).map(str::trim);
        let (name, allowed) = (field("Name:")?, field("Cpus_allowed_list:")?);
        let inside = ranges(allowed)?.iter().all(|core| cores.contains(core));
        (!inside).then(|| format!("thread '{name}' may run on cores {allowed}"))
    })
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn escaped(_: &[usize], _: &[String]) -> Option<String> {
    None
}

/// The numbers of a list such as `0-2,5`.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn ranges(list: &str) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        numbers.extend(first.trim().parse::<usize>().ok()?..=last.trim().parse::<usize>().ok()?);
    }
    Some(numbers)
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
    use super::*;

    #[test]
    fn clusters_are_cores_of_one_frequency() {
        let folder = tempfile::tempdir().unwrap();
        for (core, khz) in [(0, 1_700_000), (1, 1_700_000), (2, 2_370_000), (3, 2_370_000), (10, 2_910_000)] {
            let path = folder.path().join(format!("cpu{core}/cpufreq"));
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("cpuinfo_max_freq"), format!("{khz}\n")).unwrap();
        }
        std::fs::create_dir_all(folder.path().join("cpuidle")).unwrap();
        let found = clusters(folder.path());
        assert_eq!(found, [(1_700_000, vec![0, 1]), (2_370_000, vec![2, 3]), (2_910_000, vec![10])]);
        let of = |cluster| of_cluster(cluster, &found).unwrap();
        assert_eq!([of(Cluster::Little), of(Cluster::Middle), of(Cluster::Big)], [vec![0, 1], vec![2, 3], vec![10]]);
        assert!(of_cluster(Cluster::Middle, &found[..2]).unwrap_err().0.contains("no middle"));
        assert!(of_cluster(Cluster::Big, &[]).unwrap_err().0.contains("by number"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_that_may_run_elsewhere_is_found() {
        assert_eq!(ranges("0-2,5"), Some(vec![0, 1, 2, 5]));
        let all = allowed();
        assert_eq!(escaped(&all, &[]), None);
        assert!(escaped(&[100_000], &[]).unwrap().contains("may run on cores"));
        // Tests run in threads that aren't the first.
        assert!(!helpers().is_empty());
    }

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
