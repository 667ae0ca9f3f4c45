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
mod timer;
mod vectors;

#[cfg(unix)]
use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(argument) = std::env::args().nth(1) {
        return match argument.as_str() {
            "--version" => {
                // The one thing besides protocol messages that goes to standard output.
                #[allow(clippy::print_stdout)]
                {
                    println!(
                        "fleetfoot-agent {} (protocol {})",
                        env!("CARGO_PKG_VERSION"),
                        fleetfoot_protocol::PROTOCOL
                    );
                }
                ExitCode::SUCCESS
            }
            other => {
                eprintln!(
                    "fleetfoot-agent: unknown argument '{other}'; the agent is started by fleetfoot and speaks a protocol on stdin"
                );
                ExitCode::from(2)
            }
        };
    }
    let mut from = BufReader::new(io::stdin().lock());
    let mut to = match own_output() {
        Ok(output) => BufWriter::new(output),
        Err(error) => {
            eprintln!("fleetfoot-agent: standard output can't be taken: {error}");
            return ExitCode::FAILURE;
        }
    };
    match fleetfoot_protocol::serve(&mut from, &mut to, &mut runtime::Runtime::default()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleetfoot-agent: {error}");
            ExitCode::FAILURE
        }
    }
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
