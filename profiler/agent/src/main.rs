//! `fleetfoot-agent`: the one measuring code. Speaks the protocol on standard input and output; talk goes to standard
//! error. It ends when its host goes away.

mod accelerator;
mod files;
mod health;
mod library;
mod machine;
mod node_profile;
mod pace;
mod placement;
mod provider;
mod runtime;
#[cfg(unix)]
mod tenancy;
mod timer;
mod vectors;

use std::ffi::OsString;
#[cfg(unix)]
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter};
use std::path::PathBuf;
use std::process::ExitCode;

use fleetfoot_protocol::{FrameError, PROTOCOL, serve};

/// How the agent is started.
#[derive(Debug, Default)]
struct Options {
    /// A folder of its own, on another machine than its host's: what it keeps there outlasts it, and it ends with its host.
    folder: Option<PathBuf>,
    /// Its host's own word: an agent of that host's whose connection is gone makes room.
    host: Option<String>,
}

/// So many sessions that were broken off can be gone on with.
#[cfg(unix)]
const SESSIONS: usize = 64;

fn main() -> ExitCode {
    // ONNX Runtime would write files about itself into the user's cache, whatever its own switch says.
    // SAFETY: no other thread is there yet.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
    let version = format!("fleetfoot-agent {} (protocol {PROTOCOL})", env!("CARGO_PKG_VERSION"));
    let options = match parsed(std::env::args_os().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            // The one thing besides protocol messages that goes to standard output.
            #[allow(clippy::print_stdout)]
            {
                println!("{version}");
            }
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("fleetfoot-agent: {why}; the agent is started by fleetfoot and speaks a protocol on stdin");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("fleetfoot-agent: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The options; `None` where the version is asked for.
fn parsed(mut arguments: impl Iterator<Item = OsString>) -> Result<Option<Options>, String> {
    let mut options = Options::default();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{} wants a value", argument.display()));
        match argument.to_str() {
            Some("--version") => return Ok(None),
            Some("--folder") if cfg!(unix) => options.folder = Some(value()?.into()),
            Some("--host") if cfg!(unix) => options.host = Some(value()?.to_string_lossy().into_owned()),
            _ => return Err(format!("unknown argument '{}'", argument.display())),
        }
    }
    Ok(Some(options))
}

fn run(options: &Options) -> Result<(), String> {
    let to = own_output().map_err(|error| format!("standard output can't be taken: {error}"))?;
    let Some(path) = &options.folder else {
        return served(&mut BufReader::new(io::stdin().lock()), to, None);
    };
    #[cfg(unix)]
    {
        tenancy::end_with_host();
        let _tenancy = tenancy::take(path, options.host.as_deref())?;
        // Messages name it as it is.
        let folder = fleetfoot_protocol::Folder::new(path.canonicalize().unwrap_or_else(|_| path.clone()));
        folder.forget_all_but(SESSIONS);
        served(&mut BufReader::new(tenancy::Audible(io::stdin())), to, Some(&folder))
    }
    #[cfg(not(unix))]
    unreachable!("--folder is refused: {}", path.display())
}

fn served(
    from: &mut impl BufRead,
    to: impl io::Write,
    folder: Option<&fleetfoot_protocol::Folder>,
) -> Result<(), String> {
    serve(from, &mut BufWriter::new(to), &mut runtime::Runtime::default(), folder)
        .map_err(|error: FrameError| error.to_string())
}

/// Standard output for the protocol alone: what native libraries print there (QNN's simulator does) goes to standard
/// error from now on.
#[cfg(unix)]
fn own_output() -> io::Result<File> {
    use std::os::fd::AsFd;
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    // SAFETY: both are the process' standard streams; no Rust object owns the one that is replaced.
    if unsafe { libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(File::from(output))
}

#[cfg(not(unix))]
fn own_output() -> io::Result<io::Stdout> {
    Ok(io::stdout())
}
