//! How a program ends.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::stop::is_terminated;

/// The error of a command line that makes no sense: exit status 2.
pub fn usage(what: impl Display) -> anyhow::Error {
    clap::Error::raw(ErrorKind::ValueValidation, what).into()
}

/// The exit status of a program that was ended from outside, with all that it had done kept: the same command may go on
/// (`EX_TEMPFAIL` of sysexits.h).
pub const TRY_AGAIN: u8 = 75;

/// The exit status of a program that has done its work or failed; an error is told on one line of standard error. Behind a
/// request to terminate it is [`TRY_AGAIN`].
pub fn finish(done: anyhow::Result<()>) -> ExitCode {
    finish_passing(done, false)
}

/// The same of a program whose error may be a passing one, behind which the same command may go on, too.
pub fn finish_passing(done: anyhow::Result<()>, passing: bool) -> ExitCode {
    let error = match done {
        Ok(()) => return ExitCode::SUCCESS,
        // Whoever read the output has seen enough (`| head`).
        Err(error) if is_broken_pipe(&error) => return ExitCode::SUCCESS,
        Err(error) => error,
    };
    match error.downcast_ref::<clap::Error>() {
        Some(usage) => {
            eprintln!("fleetfoot: {}", usage.to_string().trim_start_matches("error: ").trim_end());
            ExitCode::from(2)
        }
        None => {
            eprintln!("fleetfoot: {}", one_line(&error));
            if passing || is_terminated() { ExitCode::from(TRY_AGAIN) } else { ExitCode::FAILURE }
        }
    }
}

/// The error and its causes, each said once, on one line.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let cause = cause.to_string().trim_end().replace('\n', " | ");
        if !line.contains(&cause) {
            let separator = if line.is_empty() { "" } else { ": " };
            line = format!("{line}{separator}{cause}");
        }
    }
    line
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.root_cause().downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_and_its_causes_are_one_line_that_says_nothing_twice() {
        let error = anyhow::anyhow!("line 3:\n  no number\n").context("mine.toml").context("can't read");
        assert_eq!(one_line(&error), "can't read: mine.toml: line 3: |   no number");
        let again = anyhow::anyhow!("disk full").context("checkpoint: disk full");
        assert_eq!(one_line(&again), "checkpoint: disk full");
    }

    #[test]
    fn wrong_usage_has_a_status_of_its_own() {
        assert_eq!(format!("{:?}", finish(Err(usage("--seed x")))), format!("{:?}", ExitCode::from(2)));
        assert_eq!(format!("{:?}", finish(Err(anyhow::anyhow!("x")))), format!("{:?}", ExitCode::FAILURE));
        let passing = finish_passing(Err(anyhow::anyhow!("x")), true);
        assert_eq!(format!("{passing:?}"), format!("{:?}", ExitCode::from(75)));
    }
}
