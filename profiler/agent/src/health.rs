//! The machine's state, from what Linux and Android show in /proc and /sys.

use std::path::{Path, PathBuf};

use fleetfoot_protocol::{Battery, Core, EnergyMeter, Health, Ticks};

use crate::files::{entries, number, text};

/// The state now; `at_ns` is the agent's clock.
pub fn look(at_ns: u64) -> Health {
    look_below(Path::new("/"), at_ns)
}

/// The memory that this process may still have, in bytes.
pub fn available_bytes() -> Option<u64> {
    available(Path::new("/"))
}

fn look_below(root: &Path, at_ns: u64) -> Health {
    let cpu = root.join("sys/devices/system/cpu");
    let turbo = match (number(&cpu.join("intel_pstate/no_turbo")), number(&cpu.join("cpufreq/boost"))) {
        (Some(off), _) => Some(off == 0),
        (None, boost) => boost.map(|on| on != 0),
    };
    let cpuinfo = text(&root.join("proc/cpuinfo"));
    let flags = cpuinfo.as_deref().and_then(|text| text.lines().find(|line| line.starts_with("flags")));
    let (quota_cores, quota_stops) = quota(root);
    Health {
        at_ns,
        cores: cores(root, &cpu),
        load: text(&root.join("proc/loadavg")).and_then(|text| text.split(' ').next()?.parse().ok()),
        turbo,
        virtual_machine: flags.map(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor")),
        temperatures: temperatures(&root.join("sys/class")),
        quota_cores,
        quota_stops,
        clock: text(&root.join("sys/devices/system/clocksource/clocksource0/current_clocksource")),
        power_profile: text(&root.join("sys/firmware/acpi/platform_profile")),
        battery: battery(&root.join("sys/class/power_supply")),
        thermal_status: None,
        slowed_by: slowed_by(root),
        peak_resident_bytes: peak_resident(root),
        available_bytes: available(root),
        energy: energy(&root.join("sys/class/powercap")),
        accelerators: Vec::new(),
    }
}

/// What slows a Raspberry Pi down, as its firmware says.
fn slowed_by(root: &Path) -> Option<String> {
    // Its node's name has an address in it from the Pi 5 on: `soc@107c000000/soc@107c000000:firmware`.
    let named = |path: &Path, is: fn(&str) -> bool| path.file_name().and_then(|name| name.to_str()).is_some_and(is);
    let below = |folder: &Path| entries(folder).into_iter().filter(|path| named(path, |name| name.starts_with("soc")));
    let platform = root.join("sys/devices/platform");
    let firmware = below(&platform).flat_map(|soc| below(&soc).collect::<Vec<_>>()).chain(below(&platform));
    let mut firmware = firmware.filter(|path| named(path, |name| name.ends_with(":firmware")));
    let told = firmware.find_map(|path| text(&path.join("get_throttled")))?;
    let bits = u32::from_str_radix(told.trim_start_matches("0x"), 16).ok()?;
    let names = ["under-voltage", "a capped frequency", "heat", "heat (soft limit)"];
    let now: Vec<&str> =
        names.into_iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, name)| name).collect();
    (!now.is_empty()).then(|| now.join(", "))
}

/// The most memory that this process has had resident.
fn peak_resident(root: &Path) -> Option<u64> {
    kib_of(&root.join("proc/self/status"), "VmHWM:")
}

/// What a line such as `VmHWM:   12 kB` tells, in bytes.
fn kib_of(file: &Path, name: &str) -> Option<u64> {
    let text = text(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(1024 * line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?)
}

/// The memory that this process may still have: what the system, its control groups (version 2, else 1) and its limit of address
/// space leave, whichever is the least.
fn available(root: &Path) -> Option<u64> {
    let group = text(&root.join("proc/self/cgroup")).unwrap_or_default();
    let path = |prefix: &str| group.lines().find_map(|line| Some(line.split_once(prefix)?.1.trim_start_matches('/')));
    // What is cached of files goes where memory is wanted.
    let left = |folder: &Path, most: &str, used: &str, cached: &str| {
        let stat = text(&folder.join("memory.stat")).unwrap_or_default();
        let cached = stat.lines().find_map(|line| line.strip_prefix(cached)?.trim().parse().ok()).unwrap_or(0);
        Some(number(&folder.join(most))?.saturating_sub(number(&folder.join(used))?.saturating_sub(cached)))
    };
    // A group's limit holds for those below it, too.
    let below = |base: &str, path: Option<&str>| -> Vec<PathBuf> {
        let base = root.join(base);
        let own = base.join(path.unwrap_or_default());
        own.ancestors().take_while(|folder| folder.starts_with(&base)).map(Path::to_path_buf).collect()
    };
    let second = below("sys/fs/cgroup", path("0::")).into_iter();
    let second = second.filter_map(|group| left(&group, "memory.max", "memory.current", "inactive_file "));
    let first = below("sys/fs/cgroup/memory", path(":memory:")).into_iter();
    let first = first
        .filter_map(|group| left(&group, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "));
    let limits = text(&root.join("proc/self/limits")).unwrap_or_default();
    let space = limits.lines().find_map(|line| line.strip_prefix("Max address space")?.split_whitespace().next());
    let space = space.and_then(|bytes| bytes.parse::<u64>().ok());
    let space =
        space.zip(kib_of(&root.join("proc/self/status"), "VmSize:")).map(|(most, has)| most.saturating_sub(has));
    kib_of(&root.join("proc/meminfo"), "MemAvailable:").into_iter().chain(second).chain(first).chain(space).min()
}

/// The meters of processors (RAPL): whole packages, and memory, which stands beside them. Cores and the like are parts of a
/// package.
fn energy(powercap: &Path) -> Vec<EnergyMeter> {
    let meter = |zone: PathBuf| {
        let part = text(&zone.join("name")).filter(|name| name.starts_with("package-") || name == "dram")?;
        let (microjoules, wraps_at) = (number(&zone.join("energy_uj"))?, number(&zone.join("max_energy_range_uj"))?);
        // Packages have a memory of the same name each.
        let zone = zone.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Some(EnergyMeter { part: format!("{part} ({zone})"), microjoules, wraps_at })
    };
    let zones = entries(powercap).into_iter();
    zones.filter(|zone| zone.to_string_lossy().contains("intel-rapl:")).filter_map(meter).collect()
}

fn cores(root: &Path, cpu: &Path) -> Vec<Core> {
    let stat = text(&root.join("proc/stat")).unwrap_or_default();
    // The line of all cores together has no number behind its name.
    let lines = stat.lines().filter_map(|line| line.strip_prefix("cpu")).filter(|line| !line.starts_with(' '));
    let core = |line: &str| {
        let mut fields = line.split_whitespace();
        let core: usize = fields.next()?.parse().ok()?;
        // user nice system idle iowait irq softirq steal (proc(5)); guests' time is counted in user's.
        let ticks: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
        let tick = |index: usize| ticks.get(index).copied().unwrap_or_default();
        let folder = cpu.join(format!("cpu{core}"));
        let frequency = |name: &str| number(&folder.join("cpufreq").join(name));
        let siblings = list(&text(&folder.join("topology/thread_siblings_list")).unwrap_or_default());
        Some(Core {
            core,
            ticks: Ticks {
                busy: [0, 1, 2, 5, 6].into_iter().map(tick).sum(),
                idle: tick(3) + tick(4),
                stolen: tick(7),
            },
            siblings: siblings.into_iter().filter(|&sibling| sibling != core).collect(),
            governor: text(&folder.join("cpufreq/scaling_governor")),
            preference: text(&folder.join("cpufreq/energy_performance_preference")),
            frequency_khz: frequency("scaling_cur_freq"),
            permitted_khz: frequency("scaling_max_freq"),
            maximum_khz: frequency("cpuinfo_max_freq"),
            throttled: number(&folder.join("thermal_throttle/core_throttle_count")),
        })
    };
    lines.filter_map(core).collect()
}

/// A list such as `0,4-6`.
fn list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    text.split(',').filter_map(range).flatten().take(4096).collect()
}

/// Thermal zones, and the processors' own sensors, which not all systems make zones of.
fn temperatures(class: &Path) -> Vec<(String, f64)> {
    let named = |path: &Path, start: &str, end: &str| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with(start) && name.ends_with(end)
    };
    let celsius = |path: &Path| {
        let celsius = text(path)?.parse::<f64>().ok()? / 1000.0;
        // Sensors that aren't there answer with absurd values.
        (-40.0..150.0).contains(&celsius).then_some(celsius)
    };
    let zones = entries(&class.join("thermal")).into_iter().filter(|path| named(path, "thermal_zone", ""));
    let zone = |path: PathBuf| {
        let celsius = celsius(&path.join("temp"))?;
        Some((text(&path.join("type"))?, celsius))
    };
    let chips = entries(&class.join("hwmon")).into_iter();
    let sensors = chips.filter_map(|chip| {
        let name = text(&chip.join("name")).filter(|name| PROCESSORS.contains(&name.as_str()))?;
        let inputs = entries(&chip).into_iter().filter(|path| named(path, "temp", "_input"));
        Some(inputs.filter_map(move |input| Some((name.clone(), celsius(&input)?))).collect::<Vec<_>>())
    });
    zones.filter_map(zone).chain(sensors.flatten()).collect()
}

/// Drivers of processors' temperature sensors.
const PROCESSORS: [&str; 4] = ["coretemp", "k10temp", "zenpower", "cpu_thermal"];

/// The limit of the process' own control group (version 2, else 1), and how often it has struck.
fn quota(root: &Path) -> (Option<f64>, Option<u64>) {
    let group = text(&root.join("proc/self/cgroup")).unwrap_or_default();
    let below = |prefix: &str| group.lines().find_map(|line| line.split_once(prefix)).map(|(_, path)| path.to_owned());
    let folder = |base: &str, path: Option<String>| {
        let base = root.join(base);
        let own = base.join(path.unwrap_or_default().trim_start_matches('/'));
        if own.is_dir() { own } else { base }
    };
    let unified = folder("sys/fs/cgroup", below("0::"));
    if let Some(limit) = text(&unified.join("cpu.max")) {
        let mut words = limit.split(' ').map(|word| word.parse::<f64>().ok());
        let cores = words.next().flatten().zip(words.next().flatten()).map(|(quota, period)| quota / period);
        return (cores, stops(&unified));
    }
    let first = folder("sys/fs/cgroup/cpu", below(":cpu,cpuacct:").or_else(|| below(":cpu:")));
    let value = |name: &str| text(&first.join(name)).and_then(|text| text.parse::<f64>().ok());
    let cores = value("cpu.cfs_quota_us").filter(|&quota| quota > 0.0).zip(value("cpu.cfs_period_us"));
    (cores.map(|(quota, period)| quota / period), stops(&first))
}

fn stops(group: &Path) -> Option<u64> {
    let stat = text(&group.join("cpu.stat"))?;
    stat.lines().find_map(|line| line.strip_prefix("nr_throttled "))?.parse().ok()
}

fn battery(supplies: &Path) -> Option<Battery> {
    let of_kind = |kind: &str, path: &Path| text(&path.join("type")).is_some_and(|found| found == kind);
    let battery = entries(supplies).into_iter().find(|path| {
        // A mouse's battery isn't the machine's.
        of_kind("Battery", path) && text(&path.join("scope")).is_none_or(|scope| scope == "System")
    })?;
    let percent = text(&battery.join("capacity")).and_then(|text| text.parse().ok());
    let discharging = text(&battery.join("status")).is_some_and(|status| status == "Discharging");
    let micro = |name: &str| Some(text(&battery.join(name))?.parse::<f64>().ok()?.abs());
    // Currents of some drivers are negative where they flow out.
    let microwatts = micro("power_now").or_else(|| Some(micro("current_now")? * micro("voltage_now")? / 1e6));
    // In tenths of a degree.
    let celsius = micro("temp").map(|tenths| tenths / 10.0);
    Some(Battery { percent, discharging, celsius, milliwatts: microwatts.map(|microwatts| microwatts / 1e3) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::root;

    #[test]
    fn a_machine_that_shows_everything_is_read() {
        let cpu = "sys/devices/system/cpu";
        let frequency = |name: &str| format!("{cpu}/cpu1/cpufreq/{name}");
        let root = root(&[
            ("proc/stat", "cpu  9 9 9 9\ncpu0 1 2 3 4 5 6 7 8 9 10\ncpu1 10 0 0 90 0 0 0 0\nintr 1\n"),
            ("proc/loadavg", "0.75 0.5 0.2 1/99 1\n"),
            ("proc/cpuinfo", "processor: 0\nflags\t\t: fpu hypervisor\n"),
            ("proc/self/cgroup", "0::/job\n"),
            ("sys/fs/cgroup/job/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/job/cpu.stat", "usage_usec 1\nnr_throttled 3\n"),
            (&format!("{cpu}/intel_pstate/no_turbo"), "1\n"),
            (&format!("{cpu}/cpu1/topology/thread_siblings_list"), "0-1,3\n"),
            (&frequency("scaling_governor"), "powersave\n"),
            (&frequency("energy_performance_preference"), "balance_power\n"),
            (&frequency("scaling_cur_freq"), "800000\n"),
            (&frequency("scaling_max_freq"), "2000000\n"),
            (&frequency("cpuinfo_max_freq"), "3000000\n"),
            (&format!("{cpu}/cpu1/thermal_throttle/core_throttle_count"), "5\n"),
            ("sys/class/thermal/thermal_zone0/type", "x86_pkg_temp\n"),
            ("sys/class/thermal/thermal_zone0/temp", "61500\n"),
            ("sys/class/thermal/thermal_zone1/type", "absent\n"),
            ("sys/class/thermal/thermal_zone1/temp", "-274000\n"),
            ("sys/class/hwmon/hwmon0/name", "nvme\n"),
            ("sys/class/hwmon/hwmon0/temp1_input", "70000\n"),
            ("sys/class/hwmon/hwmon1/name", "k10temp\n"),
            ("sys/class/hwmon/hwmon1/temp1_input", "72250\n"),
            ("sys/class/hwmon/hwmon1/temp1_max", "95000\n"),
            ("sys/firmware/acpi/platform_profile", "low-power\n"),
            ("sys/class/power_supply/mouse/type", "Battery\n"),
            ("sys/class/power_supply/mouse/scope", "Device\n"),
            ("sys/class/power_supply/pack/type", "Battery\n"),
            ("sys/class/power_supply/pack/capacity", "80\n"),
            ("sys/class/power_supply/pack/status", "Discharging\n"),
            ("sys/class/power_supply/pack/current_now", "-500000\n"),
            ("sys/class/power_supply/pack/voltage_now", "4000000\n"),
            ("proc/self/status", "Name:\tagent\nVmHWM:\t   12 kB\nVmRSS:\t 8 kB\n"),
            ("sys/class/powercap/intel-rapl:0/name", "package-0\n"),
            ("sys/class/powercap/intel-rapl:0/energy_uj", "123\n"),
            ("sys/class/powercap/intel-rapl:0/max_energy_range_uj", "1000\n"),
            ("sys/class/powercap/intel-rapl:0:0/name", "core\n"),
            ("sys/class/powercap/intel-rapl:0:0/energy_uj", "100\n"),
            ("sys/class/powercap/intel-rapl:0:0/max_energy_range_uj", "1000\n"),
            ("sys/class/powercap/intel-rapl:0:1/name", "dram\n"),
            ("sys/class/powercap/intel-rapl:0:1/energy_uj", "45\n"),
            ("sys/class/powercap/intel-rapl:0:1/max_energy_range_uj", "900\n"),
        ]);
        let health = look_below(root.path(), 7);
        let ticks = [Ticks { busy: 19, idle: 9, stolen: 8 }, Ticks { busy: 10, idle: 90, stolen: 0 }];
        assert_eq!(health.cores.iter().map(|core| core.ticks).collect::<Vec<_>>(), ticks);
        let core = &health.cores[1];
        assert_eq!((core.core, &core.siblings[..]), (1, &[0, 3][..]));
        assert_eq!(core.governor.as_deref(), Some("powersave"));
        assert_eq!(core.preference.as_deref(), Some("balance_power"));
        assert_eq!(health.power_profile.as_deref(), Some("low-power"));
        let frequencies = (core.frequency_khz, core.permitted_khz, core.maximum_khz);
        assert_eq!((frequencies, core.throttled), ((Some(800_000), Some(2_000_000), Some(3_000_000)), Some(5)));
        assert_eq!((health.at_ns, health.load, health.turbo), (7, Some(0.75), Some(false)));
        assert_eq!((health.quota_cores, health.quota_stops), (Some(1.5), Some(3)));
        assert_eq!(health.temperatures, [("x86_pkg_temp".to_owned(), 61.5), ("k10temp".to_owned(), 72.25)]);
        assert_eq!(
            health.battery,
            Some(Battery { percent: Some(80.0), discharging: true, celsius: None, milliwatts: Some(2000.0) })
        );
        assert_eq!(health.peak_resident_bytes, Some(12 * 1024));
        let meters: Vec<_> = health.energy.iter().map(|meter| (meter.part.as_str(), meter.microjoules)).collect();
        assert_eq!(meters, [("package-0 (intel-rapl:0)", 123), ("dram (intel-rapl:0:1)", 45)]);
        assert_eq!(health.virtual_machine, Some(true));
    }

    #[test]
    fn memory_is_what_the_least_of_all_limits_leaves() {
        let of = |files: &[(&str, &str)]| available(root(files).path());
        let system = ("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    4000 kB\n");
        assert_eq!(of(&[system]), Some(4000 * 1024));
        let second = [
            ("proc/self/cgroup", "0::/job/part\n"),
            ("sys/fs/cgroup/job/part/memory.max", "max\n"),
            ("sys/fs/cgroup/job/part/memory.current", "600\n"),
            ("sys/fs/cgroup/job/memory.max", "3000\n"),
            ("sys/fs/cgroup/job/memory.current", "1500\n"),
            ("sys/fs/cgroup/job/memory.stat", "anon 1\nfile 900\ninactive_file 500\n"),
        ];
        assert_eq!(of(&second), Some(2000));
        assert_eq!(of(&[second.as_slice(), &[system]].concat()), Some(2000));
        let first = [
            ("proc/self/cgroup", "5:memory:/job\n"),
            ("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "3000\n"),
            ("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "1000\n"),
        ];
        assert_eq!(of(&first), Some(2000));
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax address space         1000000   unlimited   bytes\n";
        let status = ("proc/self/status", "VmSize:\t 100 kB\n");
        assert_eq!(of(&[("proc/self/limits", limits), status, system]), Some(1_000_000 - 102_400));
        let unlimited = "Max address space         unlimited   unlimited   bytes\n";
        assert_eq!(of(&[("proc/self/limits", unlimited), status]), None);
    }

    #[test]
    fn a_raspberry_pi_says_what_slows_it_down() {
        let platform = "sys/devices/platform";
        let of =
            |path: &str, bits: &str| slowed_by(root(&[(&format!("{platform}/{path}/get_throttled"), bits)]).path());
        let told = |bits: &str| of("soc/soc:firmware", bits);
        for path in ["soc@107c000000/soc@107c000000:firmware", "soc@107c000000:firmware"] {
            assert_eq!(of(path, "4\n").as_deref(), Some("heat"), "a Pi 5");
        }
        assert_eq!((told("0\n"), told("50000\n"), told("garbage\n")), (None, None, None));
        assert_eq!(told("50005\n").as_deref(), Some("under-voltage, heat"));
    }

    #[test]
    fn a_machine_that_shows_nothing_has_no_state() {
        let root = root(&[("proc/stat", "garbage\ncpu\ncpux 1\n"), ("proc/loadavg", "")]);
        assert_eq!(look_below(root.path(), 0), Health::default());
    }

    #[test]
    fn a_limit_of_the_first_kind_of_control_groups_is_read() {
        let root = root(&[
            ("proc/self/cgroup", "4:cpu,cpuacct:/job\n"),
            ("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n"),
        ]);
        assert_eq!(look_below(root.path(), 0).quota_cores, Some(0.5));
    }

    #[test]
    fn this_machine_has_cores() {
        if cfg!(target_os = "linux") {
            let health = look(0);
            assert!(health.cores.iter().any(|core| core.ticks.busy > 0), "{health:?}");
            assert!(health.peak_resident_bytes.is_some_and(|bytes| bytes > 100_000), "{health:?}");
            assert!(health.available_bytes.is_some_and(|bytes| bytes > 100_000), "{health:?}");
        }
    }
}
