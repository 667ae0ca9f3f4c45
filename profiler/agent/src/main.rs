//! `fleetfoot-agent`: the one measuring code. Speaks the protocol on standard input and output; talk goes to standard
//! error. It ends when its host goes away.

mod health;
mod library;
mod machine;
mod node_profile;
mod provider;
mod runtime;
mod timer;

use std::io::{BufReader, BufWriter};
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
    let mut from = BufReader::new(std::io::stdin().lock());
    let mut to = BufWriter::new(std::io::stdout().lock());
    match fleetfoot_protocol::serve(&mut from, &mut to, &mut runtime::Runtime::default()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleetfoot-agent: {error}");
            ExitCode::FAILURE
        }
    }
}
