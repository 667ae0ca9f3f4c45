//! A connection that stays open for as long as a device is used: it holds what was changed there, and puts it back as it ends, however
//! that happens.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::process::{Talk, apart, wait};

/// How long putting things back may take.
const ENDING: Duration = Duration::from_secs(10);
/// The most of a line that is read.
const LONGEST: u64 = 4096;

/// A script that runs on a device until its input ends.
pub(super) struct Guard {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    talk: Talk,
}

/// A guard that didn't come as far as it should.
#[derive(Debug)]
pub(super) enum Refused {
    /// The program isn't there.
    Start(std::io::Error),
    /// It ended, and what it said before that.
    Ended(String),
    /// It hasn't said the word in time.
    TooLong(Duration),
}

impl Guard {
    /// Starts a script through a client.
    pub(super) fn start(mut client: Command) -> Result<Self, Refused> {
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        apart(&mut client);
        let mut child = client.spawn().map_err(Refused::Start)?;
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                let mut stdout = BufReader::new(stdout);
                let mut line = String::new();
                while let Ok(1..) = (&mut stdout).take(LONGEST).read_line(&mut line) {
                    if sender.send(line.trim_end().to_owned()).is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        }
        let (input, talk) = (child.stdin.take(), Talk::of(child.stderr.take()));
        Ok(Self { child, input, lines, talk })
    }

    /// Waits for the line that begins with this word: what is behind it.
    pub(super) fn word(&mut self, word: &str, most: Duration) -> Result<String, Refused> {
        let deadline = Instant::now() + most;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(word) {
                        return Ok(rest.trim().to_owned());
                    }
                }
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => return Err(Refused::TooLong(most)),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                    wait(&mut self.child, Duration::from_secs(1));
                    thread::sleep(Duration::from_millis(20));
                    return Err(Refused::Ended(self.talk.lines().join("\n")));
                }
            }
        }
    }

    /// Whether it is still there.
    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.input.take());
        if wait(&mut self.child, ENDING).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
