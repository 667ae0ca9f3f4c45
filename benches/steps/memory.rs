//! How much memory a program takes, each figure measured in a process of its own.

use std::process::Command;

use super::steps::Config;

/// One whose networks have a few channels.
pub const TINY: Config = ("tiny", "fashion-28", (1, 28), 10, 2);

/// The number that this program prints with these arguments, in a process of its own.
pub fn asked(arguments: &[&str]) -> Result<f64, Box<dyn std::error::Error>> {
    let output = Command::new(std::env::current_exe()?).args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.trim().parse().map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?)
}

/// MiB that are resident now.
pub fn resident_mib() -> Result<f64, Box<dyn std::error::Error>> {
    status("VmRSS:")
}

/// MiB that were resident at the peak so far.
pub fn peak_mib() -> Result<f64, Box<dyn std::error::Error>> {
    status("VmHWM:")
}

/// An entry of /proc/self/status in MiB.
fn status(name: &str) -> Result<f64, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such entry")?;
    Ok(value.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
