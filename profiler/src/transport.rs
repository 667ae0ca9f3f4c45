//! Byte streams to an agent, on this machine or on another.

mod adb;
mod android;
mod bundle;
mod facts;
mod guard;
mod installed;
mod local;
mod mock;
mod process;
mod readiness;
mod remote;
mod shell;
mod ssh;

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use fleetfoot_protocol::Health;

pub(crate) use adb::{Adb, Listed, listed};
pub(crate) use facts::{Facts, facts as asked};
pub(crate) use readiness::objection;
pub(crate) use remote::Remote;
pub(crate) use ssh::{Ssh, is_host};

use crate::device::{DeviceConfig, TransportKind};
use crate::unready::Unready;

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
    /// Whether the agent ended, once the stream has closed: else the connection did.
    fn ended_by_itself(&mut self) -> bool {
        true
    }
}

/// Who waits for a device: is told what happens, and may lose patience.
pub trait Watch: Send + Sync {
    /// Something that a person may want to know now.
    fn tell(&self, what: &str);
    /// Whether nobody waits any longer.
    fn is_stopped(&self) -> bool;
}

/// Time between two looks whether somebody still waits.
pub(crate) const LISTEN_EVERY: Duration = Duration::from_millis(200);

/// Nobody: tells nothing and never stops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Watch for Silent {
    fn tell(&self, _: &str) {}

    fn is_stopped(&self) -> bool {
        false
    }
}

/// What leads to a device's agents, which run one after the other.
pub(crate) trait Link: Send + Sync {
    /// Starts an agent.
    fn connect(&self) -> Result<Connection, Unready>;

    /// Whether it is on another machine: connections may be lost there while agents are fine, and talking disturbs.
    fn is_remote(&self) -> bool {
        false
    }

    /// Whether the device answers at this moment.
    fn is_there(&self) -> bool {
        true
    }

    /// Waits until it answers.
    fn wait(&self, _: &dyn Watch) -> Result<(), Unready> {
        Ok(())
    }

    /// Adds what agents can't see of the device's state.
    fn complement(&self, _: &mut Health) {}

    /// What the device is, as names and values of a file's head.
    fn facts(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

/// What leads to a device; what its agents need is there from then on.
pub(crate) fn link(device: &DeviceConfig, watch: &Arc<dyn Watch>) -> Result<Arc<dyn Link>, Unready> {
    Ok(match device.transport {
        TransportKind::Local => Arc::new(local::Local::new(device)),
        TransportKind::Mock => Arc::new(mock::Mock),
        TransportKind::Adb => {
            let phone = Adb::find(device.serial.as_deref())?;
            Arc::new(installed::Installed::new(phone, device, Arc::clone(watch))?)
        }
        TransportKind::Ssh => {
            let host = Ssh::find(device.host.as_deref().unwrap_or_default())?;
            Arc::new(installed::Installed::new(host, device, Arc::clone(watch))?)
        }
    })
}
