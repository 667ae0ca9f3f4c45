//! Whether a device can be measured, as far as that shows beforehand.

use std::collections::BTreeSet;

use fleetfoot_protocol::Cluster;

use super::bundle::Bundle;
use super::facts::{Facts, own_folder};
use super::remote::Remote;
use crate::device::{Cores, DeviceConfig};
use crate::unready::{State, Unready};

/// What models and results may need besides the agent, in KiB.
const ROOM_KIB: u64 = 32 << 10;

/// The folder of an agent's build.
pub(super) fn target(bundle: &Bundle) -> String {
    format!("agent-{}", bundle.digest())
}

/// Why an agent that isn't there yet can't be sent, by the space that there was; `None` if it may.
pub(super) fn lacks_room(name: &str, folder: &str, bundle: &Bundle, facts: &Facts) -> Option<Unready> {
    let kib = |name: &str| facts.get(name)?.parse::<u64>().ok();
    // Other versions make room, and what is there in part isn't sent again.
    let free = kib("free_kib")?.saturating_add(kib("own_kib").unwrap_or_default());
    let needed = bundle.bytes() / 1024 + ROOM_KIB;
    (free < needed).then(|| {
        let what =
            format!("{name} has {} MiB left for the agent in {folder}, which needs {}", free >> 10, needed >> 10);
        let remedy = "free some space on it, or name another folder in the device's configuration (folder = \"…\")";
        Unready::new(State::NoSpace, what, remedy)
    })
}

/// Why nothing can be measured on a device now, as far as that shows without anything being written or started there; `None` if it
/// seems that it can.
pub(crate) fn objection(remote: &dyn Remote, device: &DeviceConfig, facts: &Facts) -> Option<Unready> {
    let (name, folder) = (remote.name(), own_folder(remote, device.folder.as_deref()));
    if let Some(process) = facts.get("holder") {
        return Some(busy(&name, process));
    }
    let elsewhere = |why: &str| format!("name a folder {why} in the device's configuration (folder = \"…\")");
    if facts.get("unwritable").is_some() {
        let what = format!("{name} doesn't let the agent be written to {folder}");
        return Some(Unready::new(State::NotExecutable, what, elsewhere("that can be written")));
    }
    if device.device_agent.is_none() {
        if facts.get("noexec").is_some() {
            let what = format!("{name} runs no programs in {folder} (it is mounted noexec)");
            return Some(Unready::new(State::NotExecutable, what, elsewhere("whose programs may be run")));
        }
        let unready = match Bundle::find(device, facts) {
            Ok(bundle) if facts.has_agent(&target(&bundle)) => None,
            Ok(bundle) => lacks_room(&name, &folder, &bundle, facts),
            Err(unready) => Some(unready),
        };
        if unready.is_some() {
            return unready;
        }
    }
    lacks_cores(&name, device, facts)
}

/// Whether the cores are there that a configuration names.
fn lacks_cores(name: &str, device: &DeviceConfig, facts: &Facts) -> Option<Unready> {
    let unfit = |what: String| Some(Unready::new(State::Unfit, what, "choose others (cores), or leave that away"));
    match &device.cores {
        Cores::Cluster(cluster) => {
            let kinds = facts.clocks().into_iter().map(|(_, khz)| khz).collect::<BTreeSet<_>>().len();
            match (cluster, kinds) {
                (_, 0) => unfit(format!("{name} doesn't tell its cores' frequencies, so that no cluster is known")),
                (Cluster::Middle, 1 | 2) => unfit(format!("{name} has {kinds} kinds of cores and no middle ones")),
                _ => None,
            }
        }
        Cores::Numbers(cores) => {
            let count: usize = facts.get("cores")?.parse().ok().filter(|count| *count > 0)?;
            let missing = cores.iter().find(|core| **core >= count)?;
            unfit(format!("{name} has {count} cores and no core {missing}"))
        }
    }
}

pub(super) fn busy(name: &str, process: &str) -> Unready {
    Unready::new(
        State::Busy,
        format!("another run measures on {name} (its process {process} there)"),
        "wait until it has ended, or end it",
    )
}
