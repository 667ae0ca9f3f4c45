//! What an agent on another machine than its host's does besides measuring: it has its folder, and so the device, to itself,
//! and it doesn't outlive its host.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long the agent before this one may take to end: it may be within a visit.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a host may say nothing before it counts as gone: a connection may have been lost without a word.
const SILENCE: Duration = Duration::from_secs(15 * 60);

/// What `poll` is to tell besides the end of a pipe: that of a socket.
#[cfg(any(target_os = "linux", target_os = "android"))]
const SOCKET_CLOSED: libc::c_short = libc::POLLRDHUP;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const SOCKET_CLOSED: libc::c_short = 0;

/// The folder's lock, for as long as it is held.
#[derive(Debug)]
pub struct Tenancy(#[allow(dead_code)] File);

/// Takes the folder; waits for the agent that has it, which is killed if it is of the same host.
pub fn take(folder: &Path, host: Option<&str>) -> Result<Tenancy, String> {
    let path = folder.join("lock");
    let failed = |error: io::Error| format!("the device's folder can't be taken ({}: {error})", path.display());
    fs::create_dir_all(folder).map_err(failed)?;
    // Not truncated: what stands there is another's.
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    let deadline = Instant::now() + PATIENCE;
    while !locked(&file).map_err(failed)? {
        let mut holder = String::new();
        file.rewind().and_then(|()| (&file).take(100).read_to_string(&mut holder)).map_err(failed)?;
        let mut words = holder.split_whitespace();
        let (holder, theirs): (Option<u32>, _) = (words.next().and_then(|process| process.parse().ok()), words.next());
        if let Some(process) = holder.filter(|_| host.is_some() && theirs == host) {
            // SAFETY: a signal to another process; whoever holds the lock is an agent.
            unsafe { libc::kill(process as libc::pid_t, libc::SIGKILL) };
        } else if Instant::now() > deadline {
            let holder =
                holder.map_or("another agent".to_owned(), |process| format!("another agent (process {process})"));
            return Err(format!("{holder} measures on this device: wait until it has ended, or end it there"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    file.rewind()
        .and_then(|()| file.set_len(0))
        .and_then(|()| write!(file, "{} {}", std::process::id(), host.unwrap_or_default()))
        .map_err(failed)?;
    Ok(Tenancy(file))
}

fn locked(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(fs::TryLockError::WouldBlock) => Ok(false),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// From now on the process ends at once when its host goes away: when standard input is closed, also while the process measures.
/// Only for hosts that keep it open until they have every answer.
pub fn end_with_host() {
    thread::spawn(|| {
        let mut input = libc::pollfd { fd: io::stdin().as_raw_fd(), events: SOCKET_CLOSED, revents: 0 };
        loop {
            // SAFETY: one descriptor, which the call fills in.
            let told = unsafe { libc::poll(&raw mut input, 1, -1) };
            if told > 0 || (told < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted) {
                // What was measured is kept. No destructors: the runtime may be computing.
                // SAFETY: ends the process.
                unsafe { libc::_exit(0) };
            }
        }
    });
}

/// Standard input of a host that says something every now and then: silence for long is its end.
#[derive(Debug)]
pub struct Audible<R>(pub R);

impl<R: io::Read + std::os::fd::AsFd> io::Read for Audible<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut input = libc::pollfd { fd: self.0.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let most = i32::try_from(SILENCE.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one descriptor, which the call fills in.
        match unsafe { libc::poll(&raw mut input, 1, most) } {
            0 => Ok(0),
            _ => self.0.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_agent_has_a_folder_at_a_time_and_the_one_that_it_replaces_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own");
        // Holds the lock by a descriptor that it has inherited.
        let held = take(&path, None).unwrap();
        let mut sleeper = std::process::Command::new("flock");
        let lock = path.join("lock");
        drop(held);
        let Ok(mut sleeper) = sleeper.arg(&lock).args(["sleep", "60"]).spawn() else {
            assert!(std::env::var_os("CI").is_none(), "no flock");
            eprintln!("skipped: no flock");
            return;
        };
        let deadline = Instant::now() + PATIENCE;
        while locked(&File::open(&lock).unwrap()).unwrap() {
            assert!(Instant::now() < deadline, "flock doesn't lock");
            thread::sleep(Duration::from_millis(5));
        }
        fs::write(&lock, sleeper.id().to_string()).unwrap();
        let (replaced, waiting) = (sleeper.id(), thread::spawn(move || take(&path, None).map(drop)));
        thread::sleep(Duration::from_millis(100));
        assert!(!waiting.is_finished(), "somebody has the folder");
        // flock's child holds the lock as well.
        let children = format!("/proc/{replaced}/task/{replaced}/children");
        for child in fs::read_to_string(children).unwrap().split_whitespace() {
            // SAFETY: a signal to a process of this test's.
            unsafe { libc::kill(child.parse().unwrap(), libc::SIGKILL) };
        }
        sleeper.wait().unwrap();
        waiting.join().unwrap().unwrap();
    }
}
