//! What can go wrong in a search or a training.

use std::path::{Path, PathBuf};

use fleetfoot_space::{NetworkError, SpaceError, WeightsError};

use crate::compute::Compute;
use crate::demand::DemandError;
use crate::learning::checkpoint_path;
use fleetfoot_dataset::DatasetError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// libtorch refused an operation; mostly memory that ran out.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
    /// The search space or the architecture.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// A unit that can't stand where it is.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The images.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A file can't be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A thread that prepares batches panicked, and has said why.
    #[error("a thread that reads the data set panicked: its message is above")]
    Panicked,
    /// The images aren't what the space's networks take.
    #[error("the data set's images are {found}, space '{space}' takes {wanted}: choose another space or data set")]
    Images {
        /// Channels x height x width of the images, and classes.
        found: String,
        /// The space.
        space: String,
        /// What it takes.
        wanted: String,
    },
    /// A limit that no network of the space meets, or a target that all stay below.
    #[error(
        "{name}: target {target} lies outside of what the space holds: the {} network needs {least}, the {} {most}",
        if name.starts_with("latency") { "fastest" } else { "smallest" },
        if name.starts_with("latency") { "slowest" } else { "largest" }
    )]
    Target {
        /// What is limited.
        name: String,
        /// The limit, with its unit.
        target: String,
        /// What the space's networks need at least.
        least: String,
        /// What they need at most.
        most: String,
    },
    /// Limits each of which can be met, but not together.
    #[error("no network of the space meets all of: {limits}; the nearest that one does: {nearest}")]
    Limits {
        /// The limits.
        limits: String,
        /// The same, each wider by one factor, so that a network meets them.
        nearest: String,
    },
    /// What networks need can't be computed.
    #[error(transparent)]
    Demand(#[from] DemandError),
    /// A candidate that isn't there any more.
    #[error("candidate {candidate} of decision {decision} (counted from 0) was cut: it has no weights any more")]
    Cut {
        /// The decision's index.
        decision: usize,
        /// The candidate's index.
        candidate: usize,
    },
    /// `mul#log` has no value at or below a 80th of its reference.
    #[error(
        "expected latency {expected_ms} ms is at most an 80th of the reference {reference_ms} ms: the loss mul#log isn't defined there, use add#linear"
    )]
    LossUndefined {
        /// The expected latency.
        expected_ms: f64,
        /// The reference.
        reference_ms: f64,
    },
    /// The loss is no number any more.
    #[error(
        "the loss became {loss} in step {step} (learning rate {lr:.4}): lower --lr, or look for values in the data that are no numbers{}",
        checkpoint.as_ref().map_or_else(String::new, |path| format!("; the last checkpoint, {}, is good", path.display()))
    )]
    Diverged {
        /// The loss.
        loss: f64,
        /// The step.
        step: usize,
        /// The learning rate.
        lr: f64,
        /// The last checkpoint, if there is one.
        checkpoint: Option<PathBuf>,
    },
    /// What gates learn from is no number any more.
    #[error(
        "what the gates learn from is no number in step {step}, of validation images: do the data hold values that are none, or does the \
         loss give one? If not, lower --lr and --warmup-lr; the last checkpoint is from before that"
    )]
    GateLoss {
        /// The step.
        step: usize,
    },
    /// Weights aren't numbers any more.
    #[error("'{tensor}' holds values that are no numbers: lower --lr; nothing was written over the last checkpoint")]
    NotFinite {
        /// The tensor's name.
        tensor: String,
    },
    /// The loss of a trained network is no number.
    #[error(
        "the loss of {architecture} on the test images is {loss} after {step} steps: its weights or its batch \
         normalisation's statistics are no numbers; raise --batch or lower the learning rate, and start anew with --force"
    )]
    Untestable {
        /// The network.
        architecture: String,
        /// The loss.
        loss: f64,
        /// Steps that it was trained for.
        step: usize,
    },
    /// A checkpoint that can't be used.
    #[error("checkpoint {path}: {what}", path = path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// What is to compute isn't there.
    #[error("nothing computes on {wanted}: {what}")]
    Compute {
        /// What was asked for.
        wanted: Compute,
        /// Why, and what to do.
        what: String,
    },
    /// A loss or a score that isn't what it has to be.
    #[error("the criterion '{name}': {what}")]
    Criterion {
        /// The criterion's name.
        name: String,
        /// What is wrong with what it gave.
        what: String,
    },
    /// Settings that make no sense.
    #[error("{0}")]
    Settings(String),
    /// ONNX Runtime computes something else than libtorch.
    #[error(
        "the exported model differs from the trained network by {difference:.2e} on image {image} (at most {limit:.0e} is permitted): the export is wrong, nothing was written"
    )]
    ExportDiffers {
        /// Largest difference of an output, relative to max(1, |output|).
        difference: f64,
        /// The image's number.
        image: usize,
        /// The limit.
        limit: f64,
    },
    /// The exported model can't be run.
    #[error("the exported model can't be checked: {0}")]
    ExportUnchecked(String),
    /// Ranks didn't find each other.
    #[error("rank {rank} of {size} finds no others at {address}: {what}")]
    Rendezvous {
        /// This process' rank.
        rank: usize,
        /// How many there are to be.
        size: usize,
        /// Where they meet.
        address: String,
        /// Why.
        what: String,
    },
    /// A rank that others wait for is gone or says nothing any more.
    #[error(
        "rank {rank} of {size} lost the others ({what}): the last checkpoint is good, go on from it with --resume on all ranks"
    )]
    Peers {
        /// This process' rank.
        rank: usize,
        /// How many there are.
        size: usize,
        /// What happened.
        what: String,
    },
    /// What one rank has is something else on another.
    #[error("rank {rank} doesn't have rank 0's {what} ({there}… against {here}…): start all ranks alike")]
    Disagree {
        /// What differs.
        what: String,
        /// Where.
        rank: usize,
        /// What that rank has.
        there: String,
        /// What rank 0 has.
        here: String,
    },
    /// Rank 0 can't go on, and so nobody does.
    #[error("rank {rank} ends, since rank 0 says: {what}")]
    Led {
        /// This process' rank.
        rank: usize,
        /// What rank 0 said.
        what: String,
    },
    /// Ranks don't compute the same any more.
    #[error(
        "rank {rank} of {size} computes other layers than others do: are all of one build, on alike machines? The last \
         checkpoint is from before that"
    )]
    Apart {
        /// This process' rank.
        rank: usize,
        /// How many there are.
        size: usize,
    },
    /// The user asked for it.
    #[error("interrupted; the state is saved in {folder}, go on with --resume", folder = folder.display())]
    Interrupted {
        /// Where the checkpoint is.
        folder: PathBuf,
        /// How many ranks are interrupted, all by one of them.
        ranks: usize,
    },
}

impl SearchError {
    /// Whether the same may well go on when it is tried again: it is another process that is gone, or was asked to end.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Peers { .. } | Self::Rendezvous { .. } => true,
            Self::Interrupted { ranks, .. } => *ranks > 1,
            _ => false,
        }
    }

    /// A loss that is no number, in a run whose checkpoints are in this folder.
    pub fn diverged(loss: f64, step: usize, lr: f64, folder: &Path) -> Self {
        Self::Diverged { loss, step, lr, checkpoint: Some(checkpoint_path(folder)).filter(|path| path.exists()) }
    }

    /// For `map_err`: an I/O error at this path.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
