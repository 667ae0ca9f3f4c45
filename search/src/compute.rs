//! What computes: this machine's processor, or one of its GPUs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tch::{Cuda, Device, utils};

use crate::error::SearchError;
use crate::native;

/// What holds tensors and computes with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Compute {
    /// This machine's processor.
    #[default]
    Cpu,
    /// The NVIDIA GPU of this index, as CUDA counts them.
    Cuda(usize),
}

impl Compute {
    /// libtorch's name for it.
    pub fn device(self) -> Device {
        match self {
            Self::Cpu => Device::Cpu,
            Self::Cuda(index) => Device::Cuda(index),
        }
    }

    /// Makes it ready, to be called once before anything is computed; an error where libtorch doesn't offer it. On CUDA,
    /// cuDNN then takes algorithms that add in the same order every time.
    pub fn prepare(self) -> Result<(), SearchError> {
        let Self::Cuda(index) = self else { return Ok(()) };
        let offered = Offered {
            library: utils::has_cudart(),
            gpus: if utils::has_cudart() { Cuda::device_count().try_into().unwrap_or(0) } else { 0 },
        };
        offered
            .refusal(index)
            .map_or_else(|| Ok(native::deterministic()), |what| Err(SearchError::Compute { wanted: self, what }))
    }

    /// Waits until all that was asked of it is computed: a GPU computes while the program goes on. Times are of what was
    /// asked for otherwise, not of what was done.
    pub fn synchronize(self) {
        if let Self::Cuda(index) = self {
            Cuda::synchronize(i64::try_from(index).unwrap_or(0));
        }
    }
}

/// What libtorch says of CUDA.
#[derive(Clone, Copy, Debug)]
struct Offered {
    /// Whether its CUDA part is there.
    library: bool,
    /// GPUs that it finds.
    gpus: usize,
}

impl Offered {
    /// Why the GPU of an index can't be had, and what to do; `None` where it can.
    fn refusal(self, index: usize) -> Option<String> {
        match self {
            Self { library: false, .. } => Some(
                "this libtorch computes on the CPU alone: name one that was built for CUDA in LIBTORCH and build again \
                 (docs/cuda.md)"
                    .to_owned(),
            ),
            Self { gpus: 0, .. } => Some(
                "libtorch finds no GPU: does `nvidia-smi` list one, is its driver new enough for libtorch's CUDA, and is \
                 CUDA_VISIBLE_DEVICES unset or right?"
                    .to_owned(),
            ),
            Self { gpus, .. } if index >= gpus => {
                Some(format!("there are {gpus} GPUs, counted from 0: cuda:{} is the last", gpus - 1))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.pad("cpu"),
            Self::Cuda(index) => f.pad(&format!("cuda:{index}")),
        }
    }
}

impl FromStr for Compute {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let index = |text: &str| text.parse().ok().map(Self::Cuda);
        let known = match text {
            "cpu" => Some(Self::Cpu),
            "cuda" => Some(Self::Cuda(0)),
            _ => text.strip_prefix("cuda:").and_then(index),
        };
        known.ok_or_else(|| "wanted cpu, cuda, or cuda:N with a GPU's index N".to_owned())
    }
}

impl From<Compute> for String {
    fn from(compute: Compute) -> Self {
        compute.to_string()
    }
}

impl TryFrom<String> for Compute {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for (text, compute) in [("cpu", Compute::Cpu), ("cuda:0", Compute::Cuda(0)), ("cuda:12", Compute::Cuda(12))] {
            assert_eq!((text.parse(), compute.to_string()), (Ok(compute), text.to_owned()));
            assert_eq!(serde_json::to_value(compute).unwrap(), text);
        }
        assert_eq!("cuda".parse(), Ok(Compute::Cuda(0)));
        for text in ["", "CPU", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda0", "local-cpu"] {
            assert!(text.parse::<Compute>().unwrap_err().contains("cuda:N"), "{text}");
            assert!(serde_json::from_value::<Compute>(text.into()).is_err());
        }
    }

    #[test]
    fn what_libtorch_lacks_is_said_with_what_to_do() {
        let refusal = |library, gpus, index| Offered { library, gpus }.refusal(index);
        assert!(refusal(false, 0, 0).unwrap().contains("LIBTORCH"));
        assert!(refusal(true, 0, 0).unwrap().contains("nvidia-smi"));
        assert!(refusal(true, 2, 2).unwrap().contains("cuda:1 is the last"));
        assert_eq!([refusal(true, 2, 1), refusal(true, 1, 0)], [None, None]);
    }

    #[test]
    fn the_processor_is_always_ready() {
        Compute::Cpu.prepare().unwrap();
        Compute::Cpu.synchronize();
    }
}
