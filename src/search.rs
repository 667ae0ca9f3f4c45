//! `fleetfoot search`, `train` and `export`: started as programs of their own, as git starts its subcommands, so that
//! this program links no libtorch.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use fleetfoot_console::OPENMP_SPIN;

use crate::cli::Forwarded;

const PROGRAM: &str = "fleetfoot-search";

/// Runs a command of `fleetfoot-search` in this process' place; its exit status is this program's.
pub fn run(command: &str, forwarded: &Forwarded) -> Result<()> {
    let program = find()?;
    if let Some(library) = missing_library(&program) {
        bail!(
            "{} can't start without {library}: run `make setup`, or set LIBTORCH to a libtorch 2.13 and run `make build`",
            program.display()
        );
    }
    let mut child = Command::new(&program);
    child.arg(command).args(&forwarded.options);
    // As it would itself, starting a second time.
    let (spin, count) = OPENMP_SPIN;
    if std::env::var_os(spin).is_none() {
        child.env(spin, count);
    }
    replace(&mut child).with_context(|| format!("can't start {}", program.display()))
}

/// The first of a program's shared libraries that isn't there. glibc's loader tells when it is asked by this variable,
/// without running the program; others ignore it, and the program does nothing but tell its version.
fn missing_library(program: &Path) -> Option<String> {
    let told = Command::new(program).arg("--version").env("LD_TRACE_LOADED_OBJECTS", "1").output().ok()?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let missing = told.lines().find_map(|line| line.strip_suffix("=> not found"))?;
    Some(missing.trim().to_owned())
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
