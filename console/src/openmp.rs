//! How long libtorch's threads spin where they wait for each other.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

/// libgomp's variable, and what it is set to where nobody has set it. Threads that spin as long as they do by default
/// collapse where other programs want the same cores; those that don't spin at all sleep and wake at every operator, which
/// takes half of a step's time on small images. At this count a step takes 1.2 times as long as with long spinning on cores
/// that nobody else wants, and 1.4 times as long as with none on cores that somebody does.
pub const OPENMP_SPIN: (&str, &str) = ("GOMP_SPINCOUNT", "1000");

/// Starts this program again with [`OPENMP_SPIN`] set, unless it is: libgomp reads it when it is loaded, which was before
/// `main`. Gives the status to end with, or nothing where this process is to go on.
pub fn restart_for_openmp() -> Option<ExitCode> {
    let (variable, value) = OPENMP_SPIN;
    if std::env::var_os(variable).is_some() {
        return None;
    }
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut again = Command::new(std::env::current_exe().ok()?);
    again.args(arguments).env(variable, value);
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        let error = again.exec();
        eprintln!("fleetfoot: can't start with {variable}={value} ({error}); going on without");
        None
    }
    #[cfg(not(unix))]
    {
        let status = again.status().ok()?;
        Some(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
    }
}
