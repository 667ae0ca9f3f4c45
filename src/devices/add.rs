//! `fleetfoot devices add`: a configuration from what a device tells.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use fleetfoot_console::claim;
use fleetfoot_profiler::{Described, DeviceConfig, TransportKind, own_devices, write_atomically};

/// Options of `devices add`.
#[derive(Debug, Args)]
pub struct Options {
    /// A phone's serial number, as `adb devices` lists it
    #[arg(
        long,
        value_name = "SERIAL",
        required_unless_present = "ssh",
        conflicts_with = "ssh",
        allow_hyphen_values = true
    )]
    adb: Option<String>,
    /// A machine that `ssh` reaches: a name of ~/.ssh/config, an address, with user@ in front where that is needed
    #[arg(long, value_name = "HOST", allow_hyphen_values = true)]
    ssh: Option<String>,
    /// The file to write; absent: one in the folder of your own devices, named after the model, so that its name is enough for
    /// --device
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let device = device(options)?;
    let described = Described::of(&device)?;
    let (path, name) = match &options.output {
        Some(path) => (path.clone(), path.display().to_string()),
        None => {
            let folder = own_devices()
                .context("there is no home folder (HOME) for your own devices: name a file with --output")?;
            let name = own_name(&folder, &device, &described);
            (folder.join(format!("{name}.toml")), name)
        }
    };
    claim(&path, options.force, "with --output, or replace it with --force")?;
    let text = configuration(&device, &described);
    write_atomically(&path, text.as_bytes()).with_context(|| format!("can't write {}", path.display()))?;
    if let Some(unready) = &described.unready {
        eprintln!("not ready yet: {unready}");
    }
    eprintln!("{}: {}; now `fleetfoot profile --device {} …`", path.display(), described.model, quoted(&name));
    Ok(())
}

/// A name for one of the user's own devices: its model's, and where another one has that already, with its serial number or host.
fn own_name(folder: &Path, device: &DeviceConfig, described: &Described) -> String {
    let name = slug(&described.product);
    let there = DeviceConfig::load(&folder.join(format!("{name}.toml")).to_string_lossy()).ok();
    match there.filter(|there| (&there.serial, &there.host) != (&device.serial, &device.host)) {
        Some(_) => {
            let own = device.serial.as_deref().or(device.host.as_deref()).unwrap_or_default();
            slug(&format!("{name} {own}"))
        }
        None => name,
    }
}

/// A configuration that leads to the device, and nothing else yet.
fn device(options: &Options) -> Result<DeviceConfig> {
    let (transport, key, value) = match (&options.adb, &options.ssh) {
        (Some(serial), _) => (TransportKind::Adb, "serial", serial),
        (None, Some(host)) => (TransportKind::Ssh, "host", host),
        (None, None) => bail!("which device? --adb SERIAL or --ssh HOST"),
    };
    let kind = if transport == TransportKind::Adb { "adb" } else { "ssh" };
    Ok(DeviceConfig::parse(&format!("transport = \"{kind}\"\n{key} = {}\n", string(value)), &format!("--{kind}"))?)
}

/// A TOML string.
fn string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A word of a command line, with quotes where it needs them.
pub fn quoted(text: &str) -> String {
    let is_plain = !text.is_empty()
        && !text.starts_with('-')
        && text.chars().all(|c| c.is_alphanumeric() || "._-:/@+".contains(c));
    if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// A name for a file and for `--device`.
fn slug(model: &str) -> String {
    let mut slug = String::new();
    for c in model.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "device".to_owned() } else { slug.chars().take(60).collect() }
}

fn configuration(device: &DeviceConfig, described: &Described) -> String {
    let Described { model, soc, system, abi, cores, clusters, product: _, unready: _ } = described;
    let mut text = String::new();
    let about: Vec<&str> =
        [Some(model.as_str()), soc.as_deref(), system.as_deref(), Some(abi.as_str())].into_iter().flatten().collect();
    let _ = writeln!(
        text,
        "# {}; written by `fleetfoot devices add`. device-configs/ of fleetfoot explains every key.",
        about.join(", ")
    );
    let _ = writeln!(text, "description = {}", string(&format!("{model}, one thread")));
    match device.transport {
        TransportKind::Adb => {
            let _ = writeln!(
                text,
                "transport = \"adb\"\nserial = {}",
                string(device.serial.as_deref().unwrap_or_default())
            );
        }
        _ => {
            let _ =
                writeln!(text, "transport = \"ssh\"\nhost = {}", string(device.host.as_deref().unwrap_or_default()));
        }
    }
    let _ = writeln!(text, "\nprovider = \"cpu\"\noptimisation = \"all\"\nthreads = 1");
    if clusters.len() > 1 {
        let _ = writeln!(text, "# Its clusters, by the highest frequency that they are made for:");
        for (index, (khz, cores)) in clusters.iter().enumerate() {
            let name = match index {
                0 => "little",
                last if last + 1 == clusters.len() => "big",
                _ => "middle",
            };
            let _ = writeln!(text, "#     {name}: cores {cores:?}, {:.2} GHz", *khz as f64 / 1e6);
        }
        let _ = writeln!(text, "cores = \"big\"");
    } else if let Some(cores) = cores {
        let _ = writeln!(
            text,
            "# It has {cores} cores; absent: the last ones, as many as threads.\n# cores = [{}]",
            cores - 1
        );
    }
    let _ = writeln!(text, "context = \"network\"\nprecision = \"fp32\"");
    let _ = writeln!(text, "\n[hygiene]");
    if device.transport == TransportKind::Adb {
        let _ = writeln!(
            text,
            "stay_awake = true\nfixed_performance = true\nmost_thermal_status = 0\nleast_battery_percent = 15"
        );
    } else {
        // A Raspberry Pi lowers its clock at 80.
        let mark = if model.contains("Raspberry Pi") { "" } else { "# " };
        let _ = writeln!(text, "# Measuring waits above so many degrees Celsius.\n{mark}most_celsius = 75");
    }
    let _ = writeln!(text, "wait_seconds = 300");
    text
}

#[cfg(test)]
mod tests {
    use fleetfoot_profiler::Cores;

    use super::*;

    #[test]
    fn what_is_written_is_read_whatever_the_device_is_called() {
        for serial in ["8A1Y0QBEU", "a b", "\"; rm -rf $HOME", "$(reboot)", "-s", "ä'"] {
            let options = Options { adb: Some(serial.to_owned()), ssh: None, output: None, force: false };
            let device = device(&options).unwrap();
            assert_eq!(device.serial.as_deref(), Some(serial));
            let described = Described {
                model: format!("Model \"{serial}\""),
                product: "Model".to_owned(),
                soc: Some("chip".to_owned()),
                system: None,
                abi: "arm64-v8a".to_owned(),
                cores: Some(8),
                clusters: vec![(1_700_000, vec![0, 1]), (2_000_000, vec![2]), (3_000_000, vec![3])],
                unready: None,
            };
            let text = configuration(&device, &described);
            let again = DeviceConfig::parse(&text, "x").unwrap_or_else(|error| panic!("{error}: {text}"));
            assert_eq!(again.serial.as_deref(), Some(serial));
            assert!(matches!(again.cores, Cores::Cluster(_)));
        }
        let options = Options { adb: Some("a\nb".to_owned()), ssh: None, output: None, force: false };
        assert!(device(&options).is_err(), "no serial number has a line break");
    }

    #[test]
    fn two_phones_of_one_model_have_two_names() {
        let folder = tempfile::tempdir().unwrap();
        let described = Described {
            model: "Google Pixel 8".to_owned(),
            product: "Pixel 8".to_owned(),
            soc: None,
            system: None,
            abi: "arm64-v8a".to_owned(),
            cores: None,
            clusters: Vec::new(),
            unready: None,
        };
        let named = |serial: &str| {
            let options = Options { adb: Some(serial.to_owned()), ssh: None, output: None, force: false };
            let device = device(&options).unwrap();
            let name = own_name(folder.path(), &device, &described);
            std::fs::write(folder.path().join(format!("{name}.toml")), configuration(&device, &described)).unwrap();
            name
        };
        assert_eq!(
            [named("8A1"), named("8A1"), named("9B2"), named("9B2")],
            ["pixel-8", "pixel-8", "pixel-8-9b2", "pixel-8-9b2"]
        );
    }

    #[test]
    fn names_are_made_for_files_and_command_lines() {
        assert_eq!(
            (slug("Google Pixel 8 (Pro)"), slug("../../$(x)"), slug("…")),
            ("google-pixel-8-pro".into(), "x".into(), "device".into())
        );
        assert_eq!(
            (quoted("a.toml"), quoted("-x"), quoted("it's")),
            ("a.toml".into(), "'-x'".into(), r"'it'\''s'".into())
        );
    }
}
