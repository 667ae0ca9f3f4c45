//! Several devices at once, one worker each. One that fails doesn't stop the others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};
use fleetfoot_console::{one_line, say, speak_as, usage};
use fleetfoot_profiler::{DeviceConfig, TransportKind, phones};

/// Makes each device's table, `FOLDER/NAME.csv`.
pub fn run(
    devices: &[DeviceConfig],
    folder: &Path,
    table: impl Fn(&DeviceConfig, &Path) -> Result<()> + Sync,
) -> Result<()> {
    if folder.is_file() {
        bail!("{} is a file: several devices' tables go into a folder", folder.display());
    }
    let paths = paths(devices, folder)?;
    std::fs::create_dir_all(folder).with_context(|| format!("can't make the folder {}", folder.display()))?;
    let mut workers: BTreeMap<String, Vec<(&DeviceConfig, &PathBuf)>> = BTreeMap::new();
    for (device, path) in devices.iter().zip(&paths) {
        workers.entry(machine(device)).or_default().push((device, path));
    }
    let table = &table;
    let failed: Vec<(String, anyhow::Error)> = thread::scope(|scope| {
        let work = |jobs: Vec<(&DeviceConfig, &PathBuf)>| {
            let mut failed = Vec::new();
            for (device, path) in jobs {
                speak_as(&device.name);
                if let Err(error) = table(device, path) {
                    say(format!("failed: {}", one_line(&error)));
                    failed.push((device.name.clone(), error));
                }
            }
            failed
        };
        let started: Vec<_> = workers.into_values().map(|jobs| scope.spawn(move || work(jobs))).collect();
        let ended = started.into_iter().map(|worker| worker.join());
        ended
            .flat_map(|failed| failed.unwrap_or_else(|_| vec![("a worker".to_owned(), anyhow!("it panicked"))]))
            .collect()
    });
    match failed.as_slice() {
        [] => Ok(()),
        failed => {
            let each: Vec<String> = failed.iter().map(|(name, error)| format!("{name}: {}", one_line(error))).collect();
            bail!("{} of {} devices failed; {}", failed.len(), devices.len(), each.join("; "))
        }
    }
}

/// Where each device's table goes. Devices of one name, or of one that no file can have, are an error.
pub fn paths(devices: &[DeviceConfig], folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for device in devices {
        if device.name.contains(['/', '\\']) || device.name.starts_with('.') {
            return Err(usage(format!(
                "device '{}' has no name that a file can have: give it one (name = \"…\")",
                device.name
            )));
        }
        let path = folder.join(format!("{}.csv", device.name));
        if paths.contains(&path) {
            return Err(usage(format!(
                "two devices are called '{}': give one another name (name = \"…\")",
                device.name
            )));
        }
        paths.push(path);
    }
    Ok(paths)
}

/// Whether no two configurations lead to the same machine, or have the same name.
pub fn check_apart(devices: &[DeviceConfig]) -> Result<()> {
    paths(devices, Path::new(""))?;
    for (index, device) in devices.iter().enumerate() {
        if let Some(same) = devices[..index].iter().find(|other| machine(other) == machine(device)) {
            return Err(usage(format!(
                "'{}' and '{}' are one machine: it can't share with itself",
                same.name, device.name
            )));
        }
    }
    Ok(())
}

/// The phone that a configuration without a serial number means.
fn only_phone() -> Option<String> {
    let named = std::env::var("ANDROID_SERIAL").ok().filter(|serial| !serial.is_empty());
    named.or_else(|| {
        let mut ready = phones().ok()?.into_iter().filter(|phone| phone.unready.is_none());
        ready.next().filter(|_| ready.next().is_none()).map(|phone| phone.serial)
    })
}

/// What can only measure one thing at a time: configurations that lead to the same machine take turns.
fn machine(device: &DeviceConfig) -> String {
    match device.transport {
        TransportKind::Local => "local".to_owned(),
        TransportKind::Adb => format!("adb {}", device.serial.clone().or_else(only_phone).unwrap_or_default()),
        TransportKind::Ssh => format!("ssh {}", device.host.as_deref().unwrap_or_default()),
        TransportKind::Mock => format!("mock {}", device.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(toml: &str) -> DeviceConfig {
        DeviceConfig::parse(toml, "x").unwrap()
    }

    #[test]
    fn tables_have_their_devices_names_and_one_machine_takes_turns() {
        let one = device("name = \"one\"\ntransport = \"adb\"\nserial = \"X\"\ncores = \"big\"");
        let two = device("name = \"two\"\ntransport = \"adb\"\nserial = \"X\"\ncores = \"little\"");
        let other = device("name = \"other\"\ntransport = \"adb\"\nserial = \"Y\"");
        assert_eq!(machine(&one), machine(&two));
        assert_ne!(machine(&one), machine(&other));
        let folder = Path::new("f");
        assert_eq!(paths(&[one.clone(), two], folder).unwrap(), [folder.join("one.csv"), folder.join("two.csv")]);
        assert!(paths(&[one.clone(), one], folder).is_err());
        assert!(paths(&[device("name = \"../x\"\ntransport = \"mock\"")], folder).is_err());
    }

    #[test]
    fn one_that_fails_doesnt_stop_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let devices = ["a", "b", "c"].map(|name| device(&format!("name = \"{name}\"\ntransport = \"mock\"")));
        let failed = run(&devices, folder.path(), |device, path| {
            if device.name == "b" {
                bail!("no luck");
            }
            Ok(std::fs::write(path, "table")?)
        });
        let message = failed.unwrap_err().to_string();
        assert_eq!(message, "1 of 3 devices failed; b: no luck");
        assert!(folder.path().join("a.csv").exists() && folder.path().join("c.csv").exists());
    }
}
