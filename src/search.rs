//! `fleetfoot search`, `train` and `export`: started as programs of their own, as git starts its subcommands, so that
//! this program links no libtorch.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cli::Forwarded;

const PROGRAM: &str = "fleetfoot-search";

/// Runs a command of `fleetfoot-search` in this process' place; its exit status is this program's.
pub fn run(command: &str, forwarded: &Forwarded) -> Result<()> {
    let program = find()?;
    let mut child = Command::new(&program);
    child.arg(command).args(&forwarded.options);
    // Two OpenMP threads that spin at barriers on contended cores collapse; libgomp reads this when it is loaded.
    if std::env::var_os("GOMP_SPINCOUNT").is_none() {
        child.env("GOMP_SPINCOUNT", "0");
    }
    replace(&mut child).with_context(|| format!("can't start {}", program.display()))
}

/// Beside this program, else on PATH.
fn find() -> Result<PathBuf> {
    let exe = std::env::current_exe().unwrap_or_default();
    let beside = exe.parent().map(Path::to_path_buf).into_iter();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let file = format!("{PROGRAM}{}", std::env::consts::EXE_SUFFIX);
    let found = beside.chain(std::env::split_paths(&path)).map(|folder| folder.join(OsStr::new(&file)));
    match found.into_iter().find(|program| program.is_file()) {
        Some(program) => Ok(program),
        None => bail!("{PROGRAM} is neither beside fleetfoot nor on PATH: build it with `make build`"),
    }
}

#[cfg(unix)]
fn replace(command: &mut Command) -> std::io::Result<()> {
    use std::os::unix::process::CommandExt;
    Err(command.exec())
}

#[cfg(not(unix))]
fn replace(command: &mut Command) -> std::io::Result<()> {
    let status = command.status()?;
    std::process::exit(status.code().unwrap_or(1))
}
