//! Messages to and from bytes.

use std::io::{self, BufRead, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Payload;

/// The longest line that is read, in bytes.
pub const MAX_LINE: u64 = 4 << 20;
/// The largest payload that is read, in bytes.
pub const MAX_PAYLOAD: u64 = 1 << 31;

/// Bytes that are no message.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream ended between messages.
    #[error("the connection was closed")]
    Closed,
    /// The stream ended within a message.
    #[error("the connection broke off in the middle of a message")]
    Truncated,
    /// Too long to be a message.
    #[error("a message of more than {0} bytes: the other side doesn't speak this protocol")]
    TooLong(u64),
    /// Not the JSON of a message.
    #[error("not a message of this protocol: {0}")]
    Syntax(String),
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes a message and the bytes that belong to it. Flushes.
pub fn write_message<M: Serialize>(to: &mut impl Write, message: &M, payload: &[u8]) -> Result<(), FrameError> {
    let mut line = serde_json::to_vec(message).map_err(|error| FrameError::Syntax(error.to_string()))?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.write_all(payload)?;
    to.flush()?;
    Ok(())
}

/// Reads a message and the bytes that belong to it.
pub fn read_message<M: DeserializeOwned + Payload>(from: &mut impl BufRead) -> Result<(M, Vec<u8>), FrameError> {
    let mut line = Vec::new();
    let read = from.take(MAX_LINE).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Err(FrameError::Closed);
    }
    if line.last() != Some(&b'\n') {
        let long = read as u64 == MAX_LINE;
        return Err(if long { FrameError::TooLong(MAX_LINE) } else { FrameError::Truncated });
    }
    let message: M = serde_json::from_slice(&line).map_err(|error| FrameError::Syntax(error.to_string()))?;
    let wanted = message.payload();
    if wanted > MAX_PAYLOAD {
        return Err(FrameError::TooLong(MAX_PAYLOAD));
    }
    // The vector grows with what really arrives, not with what was announced.
    let mut payload = Vec::new();
    from.take(wanted).read_to_end(&mut payload)?;
    if (payload.len() as u64) < wanted {
        return Err(FrameError::Truncated);
    }
    Ok((message, payload))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::{Reply, Request, Source};

    #[test]
    fn a_message_with_its_payload_reads_back() {
        let mut bytes = Vec::new();
        let request = Request::Load { model: 3, source: Source { digest: None, payload: 4 } };
        write_message(&mut bytes, &request, &[1, 2, 10, 4]).unwrap();
        write_message(&mut bytes, &Request::Quit, &[]).unwrap();
        let mut stream = Cursor::new(bytes);
        let (message, payload): (Request, _) = read_message(&mut stream).unwrap();
        assert_eq!((message, payload.as_slice()), (request, &[1, 2, 10, 4][..]));
        assert_eq!(read_message::<Request>(&mut stream).unwrap().0, Request::Quit);
        assert!(matches!(read_message::<Request>(&mut stream), Err(FrameError::Closed)));
    }

    #[test]
    fn a_broken_off_message_is_no_message() {
        let mut bytes = Vec::new();
        let output = Reply::Output { dims: vec![1], payload: 4 };
        write_message(&mut bytes, &output, &[0; 4]).unwrap();
        for cut in 1..bytes.len() {
            let read = read_message::<Reply>(&mut Cursor::new(&bytes[..cut]));
            assert!(matches!(read, Err(FrameError::Truncated)), "cut at {cut}");
        }
    }

    #[test]
    fn hostile_bytes_are_errors() {
        for hostile in [&b"\xff\xfe\n"[..], b"{}\n", b"{\"reply\":\"output\",\"dims\":[],\"payload\":99999999999}\n"] {
            assert!(read_message::<Reply>(&mut Cursor::new(hostile)).is_err());
        }
        let endless = vec![b'['; MAX_LINE as usize + 1];
        assert!(matches!(read_message::<Reply>(&mut Cursor::new(endless)), Err(FrameError::TooLong(_))));
    }
}
