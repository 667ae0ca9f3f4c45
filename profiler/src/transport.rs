//! Byte streams to an agent.

mod local;
mod mock;

use std::io::{self, Read, Write};

use crate::device::{DeviceConfig, TransportKind};

/// A stream to an agent, and what holds it open.
pub(crate) struct Connection {
    pub from: Box<dyn Read + Send>,
    pub to: Box<dyn Write + Send>,
    pub peer: Box<dyn Peer>,
}

/// The other end of a connection.
pub(crate) trait Peer: Send {
    /// How it ended or what it last said, once the stream has closed.
    fn epitaph(&mut self) -> String;
}

/// Connects to a device's agent.
pub(crate) fn connect(device: &DeviceConfig) -> io::Result<Connection> {
    match device.transport {
        TransportKind::Local => local::connect(device),
        TransportKind::Mock => mock::connect(),
    }
}
