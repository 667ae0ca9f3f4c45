//! Programs of this machine that reach others: never without a limit of time, and of what they may say.

use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::LISTEN_EVERY;

/// The most that is kept of what a program says.
const MOST_OUTPUT: u64 = 4 << 20;
/// How long what a program said may take to arrive once it has ended.
const STREAMS: Duration = Duration::from_secs(5);
/// How many lines of an agent's talk are kept for messages, and how long a line may be.
const TALK: (usize, u64) = (20, 4096);

/// What a program that ended said.
#[derive(Debug)]
pub(super) struct Ended {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

/// A program that brought no result.
#[derive(Debug)]
pub(super) enum Failure {
    /// It can't be started.
    Start(io::Error),
    /// It took longer than it may.
    TooLong(Duration),
    /// Nobody waits for it any longer.
    Stopped,
}

/// Runs a program, with these bytes as its input.
pub(super) fn run(command: Command, input: Vec<u8>, most: Duration) -> Result<Ended, Failure> {
    run_while(command, input, most, &|| true)
}

/// The same, for as long as somebody waits.
pub(super) fn run_while(
    mut command: Command,
    input: Vec<u8>,
    most: Duration,
    is_awaited: &dyn Fn() -> bool,
) -> Result<Ended, Failure> {
    command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    apart(&mut command);
    let mut child = command.spawn().map_err(Failure::Start)?;
    let (stdout, stderr) = (collected(child.stdout.take()), collected(child.stderr.take()));
    if let Some(mut stdin) = child.stdin.take() {
        // A program that doesn't read on says why by itself.
        thread::spawn(move || stdin.write_all(&input));
    }
    let began = Instant::now();
    let status = loop {
        let left = most.saturating_sub(began.elapsed());
        if let Some(status) = wait(&mut child, left.min(LISTEN_EVERY)) {
            break status;
        }
        if left.is_zero() || !is_awaited() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(if left.is_zero() { Failure::TooLong(most) } else { Failure::Stopped });
        }
    };
    // Whatever it has started may keep its streams open.
    let text = |collected: Receiver<Vec<u8>>| collected.recv_timeout(STREAMS).unwrap_or_default();
    Ok(Ended { status, stdout: text(stdout), stderr: String::from_utf8_lossy(&text(stderr)).into_owned() })
}

/// Ctrl-C is for this program alone: it ends the others as it ends. And none of them asks anything on its terminal.
pub(super) fn apart(command: &mut Command) {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        let leave = || match unsafe { libc::setsid() } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        };
        // SAFETY: between fork and exec there is one system call, which may be made there.
        unsafe { command.pre_exec(leave) };
    }
    #[cfg(not(unix))]
    let _ = command;
}

/// Waits for a program for so long; `None` if it still runs.
pub(super) fn wait(child: &mut Child, most: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + most;
    let mut pause = Duration::from_micros(200);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(pause),
            _ => return None,
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// A program whose standard streams lead to an agent, or are one's.
#[derive(Debug)]
pub(super) struct Client {
    child: Child,
    talk: Talk,
    /// How long it may take to end once its input is closed.
    ending: Duration,
}

/// How long a program may take to end that has closed its output.
const CLOSED: Duration = Duration::from_secs(2);
/// What was said last may still be on its way.
const LAST_WORDS: Duration = Duration::from_millis(50);

impl Client {
    pub(super) fn start(mut command: Command, ending: Duration) -> io::Result<(Self, ChildStdout, ChildStdin)> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        apart(&mut command);
        let mut child = command.spawn()?;
        let streams = child.stdout.take().zip(child.stdin.take());
        let (from, to) = streams.ok_or_else(|| io::Error::other("its process has no streams"))?;
        let talk = Talk::of(child.stderr.take());
        Ok((Self { child, talk, ending }, from, to))
    }

    /// How it ended, and what it said last, once it has closed its output.
    pub(super) fn last_words(&mut self) -> (Option<ExitStatus>, Vec<String>) {
        let status = wait(&mut self.child, CLOSED);
        thread::sleep(LAST_WORDS);
        (status, self.talk.lines())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Its input is closed by now: it ends by itself, unless it hangs, or the connection does.
        if wait(&mut self.child, self.ending).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What an agent that was killed may have died of.
pub(super) const KILLED: &str =
    "killed, perhaps because memory ran out: close what else runs there, or measure smaller networks";

/// What comes on a stream until its end, or as much as is kept.
fn collected(stream: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let _ = (&mut stream).take(MOST_OUTPUT).read_to_end(&mut bytes);
            let _ = sender.send(bytes);
            // The rest is read, lest the program wait for ever, and dropped.
            let _ = io::copy(&mut stream, &mut io::sink());
        }
    });
    receiver
}

/// The last lines of what a running program says on standard error.
#[derive(Clone, Debug, Default)]
pub(super) struct Talk(Arc<Mutex<Vec<String>>>);

impl Talk {
    /// Listens until the program closes it.
    pub(super) fn of(stderr: Option<impl Read + Send + 'static>) -> Self {
        let talk = Self::default();
        let (kept, stream) = (talk.clone(), stderr);
        thread::spawn(move || {
            let Some(mut stream) = stream.map(io::BufReader::new) else { return };
            let mut line = Vec::new();
            while let Ok(1..) = io::BufRead::read_until(&mut (&mut stream).take(TALK.1), b'\n', &mut line) {
                let said = String::from_utf8_lossy(&line).trim_end().to_owned();
                let mut lines = kept.0.lock().unwrap_or_else(PoisonError::into_inner);
                if lines.len() == TALK.0 {
                    lines.remove(0);
                }
                lines.push(said);
                line.clear();
            }
        });
        talk
    }

    /// What was said so far, the last lines of it.
    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_gets_its_input_and_what_it_says_is_kept() {
        let ended = run(shell("cat; echo talk >&2; exit 3"), b"data".to_vec(), Duration::from_secs(20)).unwrap();
        assert_eq!(
            (ended.status.code(), ended.stdout.as_slice(), ended.stderr.as_str()),
            (Some(3), &b"data"[..], "talk\n")
        );
        let ended = run(shell("cat"), Vec::new(), Duration::from_secs(20)).unwrap();
        assert_eq!(ended.stdout, b"");
    }

    #[test]
    fn a_program_that_hangs_or_never_stops_talking_is_no_danger() {
        assert!(matches!(run(shell("exec sleep 60"), Vec::new(), Duration::from_millis(50)), Err(Failure::TooLong(_))));
        let ended = run(shell("head -c 9000000 /dev/zero"), Vec::new(), Duration::from_secs(20)).unwrap();
        assert_eq!(ended.stdout.len() as u64, MOST_OUTPUT);
        let began = Instant::now();
        run(shell("sleep 60 & exit 0"), Vec::new(), Duration::from_secs(20)).unwrap();
        assert!(began.elapsed() < Duration::from_secs(30), "a grandchild keeps the streams");
        let stopped = run_while(shell("exec sleep 60"), Vec::new(), Duration::from_secs(20), &|| false);
        assert!(matches!(stopped, Err(Failure::Stopped)));
        assert!(matches!(
            run(Command::new("/nowhere/at-all"), Vec::new(), Duration::from_secs(1)),
            Err(Failure::Start(_))
        ));
    }
}
