//! One agent's process at the other end of a connection: requests and their replies, in order.

use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use fleetfoot_protocol::{FrameError, Reply, Request, read_message, write_message};

use crate::transport::{Connection, LISTEN_EVERY, Link, Peer, Watch};

/// How long an answer may take before the agent counts as hanging: on this machine, and elsewhere as long as its device answers.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(180), Duration::from_secs(600));
/// Time between two looks whether a device that says nothing is still there, and how many of them in vain are its end.
const LOOK_EVERY: Duration = Duration::from_secs(15);
const LOOKS_IN_VAIN: u32 = 2;

/// How long an answer may take when nobody waits any longer.
const PARTING: Duration = Duration::from_secs(10);
/// Lines in front of the first message that are none: shells may greet.
const GREETINGS: usize = 100;

/// A connection to an agent.
pub(crate) struct Wire {
    // Dropped first, so that the agent sees the end of its input before its process is waited for.
    to: Box<dyn Write + Send>,
    replies: Receiver<Result<(Reply, Vec<u8>), FrameError>>,
    peer: Box<dyn Peer>,
}

/// A connection that is of no use any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    /// What is known.
    pub what: String,
    /// Whether the agent may be fine: the connection broke off, or the device doesn't answer.
    pub is_cut: bool,
    /// Whether what came isn't of this protocol.
    pub is_foreign: bool,
}

impl Wire {
    pub(crate) fn new(connection: Connection, is_remote: bool) -> Self {
        // No more than one message ahead: an agent that never stops talking fills no memory.
        let (sender, replies) = sync_channel(1);
        let mut from = BufReader::new(connection.from);
        thread::spawn(move || {
            skip_greetings(&mut from);
            loop {
                let message = read_message::<Reply>(&mut from);
                let ended = message.is_err();
                if sender.send(message).is_err() || ended {
                    return;
                }
            }
        });
        let to = if is_remote { Box::new(Sending::new(connection.to)) } else { connection.to };
        Self { to, replies, peer: connection.peer }
    }

    /// The reply to a request.
    pub(crate) fn ask(
        &mut self,
        request: &Request,
        payload: &[u8],
        link: &dyn Link,
        watch: &dyn Watch,
    ) -> Result<(Reply, Vec<u8>), Lost> {
        if let Err(error) = write_message(&mut self.to, request, payload) {
            return Err(self.lost(&error));
        }
        let began = Instant::now();
        let (every, most) = if link.is_remote() { (LOOK_EVERY, PATIENCE.1) } else { (PATIENCE.0, PATIENCE.0) };
        let (mut in_vain, mut looked, mut parted) = (0, Instant::now(), None);
        loop {
            match self.replies.recv_timeout(LISTEN_EVERY) {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(error)) => return Err(self.lost(&error)),
                Err(RecvTimeoutError::Disconnected) => return Err(self.lost(&FrameError::Closed)),
                Err(RecvTimeoutError::Timeout) if watch.is_stopped() => {
                    if parted.get_or_insert_with(Instant::now).elapsed() >= PARTING {
                        let what = format!("the agent hasn't answered for {} s", began.elapsed().as_secs());
                        return Err(Lost { what, is_cut: false, is_foreign: false });
                    }
                }
                Err(RecvTimeoutError::Timeout) if looked.elapsed() < every => {}
                Err(RecvTimeoutError::Timeout) => {
                    looked = Instant::now();
                    in_vain = if link.is_there() { 0 } else { in_vain + 1 };
                    if began.elapsed() >= most || in_vain == LOOKS_IN_VAIN {
                        let what = format!("the agent hasn't answered for {} s", began.elapsed().as_secs());
                        return Err(Lost { what, is_cut: link.is_remote(), is_foreign: false });
                    }
                }
            }
        }
    }

    fn lost(&mut self, error: &FrameError) -> Lost {
        let is_foreign = matches!(error, FrameError::Syntax(_) | FrameError::TooLong(_));
        let is_cut = !is_foreign && !self.peer.ended_by_itself();
        Lost { what: format!("{error}: {}", self.peer.epitaph()), is_cut, is_foreign }
    }
}

/// Passes over lines in front of the first message that are none.
fn skip_greetings(from: &mut impl BufRead) {
    for _ in 0..GREETINGS {
        match from.fill_buf() {
            Ok([b'{', ..] | []) | Err(_) => return,
            Ok(_) => {
                let _ = from.take(1 << 16).read_until(b'\n', &mut Vec::new());
            }
        }
    }
}

/// Writes in a thread of its own: a device that takes nothing any more holds nobody up.
struct Sending {
    buffer: Vec<u8>,
    to: SyncSender<Vec<u8>>,
}

impl Sending {
    fn new(mut to: Box<dyn Write + Send>) -> Self {
        let (sender, bytes) = sync_channel::<Vec<u8>>(1);
        thread::spawn(move || {
            // What can't be written shows by the reply that never comes.
            while bytes.recv().is_ok_and(|bytes| to.write_all(&bytes).and_then(|()| to.flush()).is_ok()) {}
        });
        Self { buffer: Vec::new(), to: sender }
    }
}

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.to.try_send(std::mem::take(&mut self.buffer)).map_err(|error| match error {
            std::sync::mpsc::TrySendError::Full(_) => io::Error::from(io::ErrorKind::WouldBlock),
            disconnected => gone(disconnected),
        })
    }
}
