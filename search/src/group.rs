//! Processes, ranks 0 to size - 1, that learn together: each computes its share of a batch, and what they learn is averaged.
//!
//! They are started by whatever starts PyTorch's jobs ([`Launch`]) and talk through libtorch's c10d. One process alone is a
//! group of one, for which nothing is sent.

mod agreement;
mod exchange;
mod launch;
#[cfg_attr(not(feature = "distributed"), path = "group/without.rs")]
mod link;
#[cfg(feature = "distributed")]
mod meeting;
mod probe;

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tch::{Device, TchError, Tensor, no_grad};

use crate::compute::Compute;
use crate::error::SearchError;

pub use agreement::Agreement;
pub use exchange::Exchange;
pub use launch::{Dist, Launch, LaunchError, Rendezvous};
use link::Link;
pub use probe::{Probe, Transfer};

/// What carries tensors from rank to rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// NCCL where this build has it and GPUs compute, else Gloo.
    #[default]
    Auto,
    /// Gloo, over TCP. Tensors of GPUs go through the processor's memory.
    Gloo,
    /// NCCL, from GPU to GPU.
    Nccl,
}

impl Backend {
    const ALL: [Self; 3] = [Self::Auto, Self::Gloo, Self::Nccl];

    /// What is meant where this computes.
    fn resolved(self, compute: Compute) -> Result<Self, SearchError> {
        let gpu = compute != Compute::Cpu;
        match self {
            Self::Auto if gpu && cfg!(feature = "nccl") => Ok(Self::Nccl),
            Self::Auto | Self::Gloo => Ok(Self::Gloo),
            Self::Nccl if !gpu => Err(SearchError::Settings(
                "--dist-backend nccl is for GPUs: add --compute cuda, or take gloo".to_owned(),
            )),
            Self::Nccl if !cfg!(feature = "nccl") => Err(SearchError::Settings(
                "this build has no NCCL: take --dist-backend gloo, or build with --features nccl (docs/distributed.md)"
                    .to_owned(),
            )),
            Self::Nccl => Ok(Self::Nccl),
        }
    }
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Gloo => "gloo",
            Self::Nccl => "nccl",
        })
    }
}

impl std::str::FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|backend| backend.to_string() == text);
        known.ok_or_else(|| format!("'{text}' carries no tensors: wanted auto, gloo or nccl"))
    }
}

/// One rank's view of a group.
#[derive(Debug)]
pub struct Group {
    rank: usize,
    size: usize,
    backend: Backend,
    compute: Compute,
    restarted: bool,
    /// None where there is one rank.
    link: Option<Link>,
}

/// One process that has nobody to talk to.
pub static ALONE: Group = Group::alone();

impl Default for Group {
    fn default() -> Self {
        Self::alone()
    }
}

impl Group {
    /// One process that has nobody to talk to.
    pub const fn alone() -> Self {
        Self { rank: 0, size: 1, backend: Backend::Gloo, compute: Compute::Cpu, restarted: false, link: None }
    }

    /// Waits for all ranks of a launch; nothing that is asked of others later takes longer than the timeout, either.
    pub fn join(
        launch: &Launch,
        backend: Backend,
        compute: Compute,
        timeout: Duration,
    ) -> Result<Arc<Self>, SearchError> {
        let backend = backend.resolved(compute)?;
        let joined = joined(launch.clone(), backend == Backend::Nccl, timeout);
        let (link, again) = joined.map_err(|what| SearchError::Rendezvous {
            rank: launch.rank,
            size: launch.size,
            address: launch.rendezvous.to_string(),
            what,
        })?;
        let (rank, size) = (launch.rank, launch.size);
        let mut group = Self { rank, size, backend, compute, restarted: false, link: Some(link) };
        // Whoever starts processes again on several machines doesn't count alike on all of them.
        [group.restarted] = group.any([again || launch.restarts > 0])?;
        Ok(Arc::new(group))
    }

    /// Which rank this process is, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether this is rank 0, which alone writes and talks.
    pub fn leads(&self) -> bool {
        self.rank == 0
    }

    /// Whether these processes were started before, by whatever starts them: a run then goes on by itself.
    pub fn restarted(&self) -> bool {
        self.restarted
    }

    /// What carries tensors.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Each rank's share of a batch.
    pub fn share(&self, batch: usize, option: &str) -> Result<usize, SearchError> {
        if batch.is_multiple_of(self.size) {
            return Ok(batch / self.size);
        }
        let (below, ranks) = (batch - batch % self.size, self.size);
        let wanted = if below == 0 { ranks.to_string() } else { format!("{below} or {}", below + ranks) };
        Err(SearchError::Settings(format!(
            "{option} {batch} is that of all {ranks} ranks together, which can't share it evenly: wanted a multiple of {ranks}, such as {wanted}"
        )))
    }

    /// Sums over all ranks, in place.
    pub fn sum(&self, values: &mut [f64]) -> Result<(), SearchError> {
        let Some(link) = &self.link else { return Ok(()) };
        let sums = Tensor::f_from_slice(values)?.f_to(self.wire())?;
        self.told(link.sum(&sums).and_then(|work| work.finish()))?;
        sums.f_to(Device::Cpu)?.f_copy_data(values, values.len())?;
        Ok(())
    }

    /// Means over all ranks, in place: the same numbers on each.
    pub fn mean(&self, values: &mut [f64]) -> Result<(), SearchError> {
        self.sum(values)?;
        values.iter_mut().for_each(|value| *value /= self.size as f64);
        Ok(())
    }

    /// What any rank says.
    pub fn any<const N: usize>(&self, flags: [bool; N]) -> Result<[bool; N], SearchError> {
        let mut sums = flags.map(|flag| f64::from(u8::from(flag)));
        self.sum(&mut sums)?;
        Ok(sums.map(|sum| sum > 0.0))
    }

    /// Gives all ranks rank 0's values of tensors, in place.
    pub fn copy_first(&self, tensors: &[&Tensor]) -> Result<(), SearchError> {
        let Some(link) = &self.link else { return Ok(()) };
        if tensors.is_empty() {
            return Ok(());
        }
        no_grad(|| {
            let parts = tensors.iter().map(|tensor| tensor.f_reshape([-1])).collect::<Result<Vec<_>, TchError>>()?;
            let whole = Tensor::f_cat(&parts, 0)?.f_to(self.wire())?;
            self.told(link.broadcast(&whole))?;
            let mut start = 0;
            for tensor in tensors {
                let length = tensor.numel() as i64;
                let part = whole.f_narrow(0, start, length)?.f_view_(tensor.size())?;
                start += length;
                tensor.shallow_clone().f_copy_(&part)?;
            }
            Ok(())
        })
    }

    /// Rank 0's bytes, on all ranks; what others give is ignored.
    fn bytes_of_first(&self, bytes: Vec<u8>) -> Result<Vec<u8>, SearchError> {
        let Some(link) = &self.link else { return Ok(bytes) };
        let mut length = [if self.leads() { bytes.len() as f64 } else { 0.0 }];
        self.sum(&mut length)?;
        let mut all = bytes;
        all.resize(length[0] as usize, 0);
        if !all.is_empty() {
            let whole = Tensor::f_from_slice(&all)?.f_to(self.wire())?;
            self.told(link.broadcast(&whole))?;
            whole.f_to(Device::Cpu)?.f_copy_data(&mut all, whole.numel())?;
        }
        Ok(all)
    }

    /// What every rank has to say, in the order of ranks, on all of them.
    pub fn gather<T: Serialize + DeserializeOwned>(&self, own: &T) -> Result<Vec<T>, SearchError> {
        let own = serde_json::to_vec(own).map_err(|error| self.garbled(&error))?;
        let mut lengths = vec![0.0; self.size];
        lengths[self.rank] = own.len() as f64;
        self.sum(&mut lengths)?;
        let total: f64 = lengths.iter().sum();
        let before: f64 = lengths[..self.rank].iter().sum();
        // Everybody's bytes at their place, zeros elsewhere: their sum is what all said.
        let mut all = vec![0u8; total as usize];
        all[before as usize..][..own.len()].copy_from_slice(&own);
        if let Some(link) = &self.link {
            let whole = Tensor::f_from_slice(&all)?.f_to(self.wire())?;
            self.told(link.sum(&whole).and_then(|work| work.finish()))?;
            whole.f_to(Device::Cpu)?.f_copy_data(&mut all, total as usize)?;
        }
        let mut rest = &all[..];
        let mut said = Vec::with_capacity(self.size);
        for length in lengths {
            let (part, behind) = rest.split_at(length as usize);
            said.push(serde_json::from_slice(part).map_err(|error| self.garbled(&error))?);
            rest = behind;
        }
        Ok(said)
    }

    fn garbled(&self, error: &serde_json::Error) -> SearchError {
        SearchError::Peers {
            rank: self.rank,
            size: self.size,
            what: format!("what ranks told each other is garbled: {error}"),
        }
    }

    /// What rank 0 finds, on all ranks; where it fails there, all fail.
    pub fn led<T, E>(&self, find: impl FnOnce() -> Result<T, E>) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<SearchError> + std::fmt::Display,
    {
        if self.size == 1 {
            return find();
        }
        if !self.leads() {
            let told = self.bytes_of_first(Vec::new())?;
            let told: Told<T> = serde_json::from_slice(&told).map_err(|error| self.garbled(&error))?;
            return told.map_err(|what| SearchError::Led { rank: self.rank, what }.into());
        }
        let found = find();
        let told = match &found {
            Ok(found) => serde_json::to_vec(&Ok::<&T, String>(found)),
            Err(error) => serde_json::to_vec(&Err::<T, String>(error.to_string())),
        };
        self.bytes_of_first(told.map_err(|error| self.garbled(&error))?)?;
        found
    }

    /// The bytes of a file of rank 0's, on all ranks.
    pub(crate) fn file_of_first(&self, path: &std::path::Path) -> Result<Vec<u8>, SearchError> {
        let mut bytes = Vec::new();
        // An error is told before others wait for the bytes.
        self.led(|| {
            bytes = std::fs::read(path).map_err(SearchError::io(path))?;
            Ok::<_, SearchError>(())
        })?;
        self.bytes_of_first(bytes)
    }

    /// Where tensors have to lie to be sent.
    fn wire(&self) -> Device {
        if self.backend == Backend::Nccl { self.compute.device() } else { Device::Cpu }
    }

    /// What a link says, as an error of this rank's.
    fn told<T>(&self, said: Result<T, String>) -> Result<T, SearchError> {
        said.map_err(|what| SearchError::Peers { rank: self.rank, size: self.size, what })
    }
}

/// How much longer than the timeout joining may take until it is ended: what ends by itself says more.
const GRACE: Duration = Duration::from_secs(3);

/// Joins the others. c10d waits for ever for a store that is frozen; nobody waits for that.
fn joined(launch: Launch, by_nccl: bool, timeout: Duration) -> Result<(Link, bool), String> {
    let (sender, joined) = mpsc::channel();
    thread::spawn(move || {
        // Where nobody listens any more, it is too late.
        let _ = sender.send(Link::join(&launch, by_nccl, timeout));
    });
    let late = || format!("whoever listens there says nothing, for {} s now", timeout.as_secs());
    joined.recv_timeout(timeout.saturating_add(GRACE)).unwrap_or_else(|_| Err(late()))
}

/// What rank 0 found, or why it didn't.
type Told<T> = Result<T, String>;

/// Ends the process without taking anything apart that threads still use.
pub fn end_at_once(status: u8) -> ! {
    use std::io::Write as _;
    let _ = std::io::stdout().flush();
    // SAFETY: it doesn't return.
    unsafe { libc::_exit(i32::from(status)) }
}

/// A mark of what is computed, to be compared between ranks: FNV-1a.
pub(crate) fn mark<'a>(texts: impl Iterator<Item = &'a str>, numbers: impl Iterator<Item = i64>) -> u64 {
    const PRIME: u64 = 0x0100_0000_01b3;
    let bytes = texts.flat_map(str::bytes);
    let bytes = bytes.chain(numbers.flat_map(i64::to_le_bytes));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    // Few bits are compared: all should take part.
    hash ^ (hash >> 18) ^ (hash >> 36) ^ (hash >> 54)
}
