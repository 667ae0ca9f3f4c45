//! Shards that measure on this machine take turns: two at once would measure each other.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, bail};
use fleetfoot_console::{say, stop_flag};
use fleetfoot_profiler::{DeviceConfig, TransportKind};

/// The lock's name, and where it lies: the same for everybody on this machine, whatever a scheduler makes of TMPDIR.
const NAME: &str = "fleetfoot-shards.lock";
const FOLDERS: [&str; 2] = ["/run/lock", "/tmp"];
/// Time between two attempts.
const EVERY: Duration = Duration::from_millis(200);

/// The turn of one shard: over when this is dropped, or the process ends, however it does.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "held for its lock")] Option<File>);

/// Waits until no other shard measures on this machine. Other machines are held by one host at a time anyway, and a simulation is
/// nobody's.
pub fn take_turn(device: &DeviceConfig) -> Result<Turn> {
    match device.transport {
        TransportKind::Local => turn(&path(), &*stop_flag()?).map(Some).map(Turn),
        TransportKind::Adb | TransportKind::Ssh | TransportKind::Mock => Ok(Turn(None)),
    }
}

fn path() -> PathBuf {
    let folder = FOLDERS.iter().map(Path::new).find(|folder| folder.is_dir());
    folder.map_or_else(std::env::temp_dir, Path::to_path_buf).join(NAME)
}

fn turn(path: &Path, stop: &AtomicBool) -> Result<File> {
    let file = opened(path)?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                bail!("{}: {error}: shards on this machine can't take turns; measure without --shard", path.display())
            }
        }
        if !std::mem::replace(&mut told, true) {
            say(format!("another shard measures on this machine: waiting until it is done ({})", path.display()));
        }
        if stop.load(Ordering::Relaxed) {
            bail!("interrupted; nothing was measured yet");
        }
        sleep(EVERY);
    }
}

/// Somebody else's file is only read: that is enough for a lock, and systems refuse more in folders that are everybody's.
fn opened(path: &Path) -> Result<File> {
    for _ in 0..2 {
        match File::open(path) {
            Ok(file) => return Ok(file),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                bail!("can't read {}, by which shards take turns: {error}; remove it", path.display())
            }
            Err(_) => {}
        }
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(file) => {
                // Whatever the umask is: others read it.
                #[cfg(unix)]
                file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
                return Ok(file);
            }
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                bail!("can't make {}, by which shards take turns: {error}", path.display())
            }
            Err(_) => {}
        }
    }
    bail!("{}, by which shards take turns, comes and goes", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_waits_for_the_one_that_measures() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let stop = AtomicBool::new(false);
        let first = turn(&path, &stop).unwrap();
        let waited = std::thread::scope(|scope| {
            let second = scope.spawn(|| turn(&path, &stop).map(drop));
            sleep(Duration::from_millis(500));
            let waited = !second.is_finished();
            drop(first);
            second.join().unwrap().unwrap();
            waited
        });
        assert!(waited);
        let _first = turn(&path, &stop).unwrap();
        stop.store(true, Ordering::Relaxed);
        assert!(turn(&path, &stop).unwrap_err().to_string().contains("interrupted"));
    }
}
