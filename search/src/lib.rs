//! Searching and training networks on libtorch.
//!
//! A [`Module`] interprets a network of `fleetfoot-space`, as the ONNX writer does. A [`Supernet`] holds every candidate
//! of a search space; [`Gates`] draw the [`Path`] that is computed. A [`Search`] lets weights and gates learn in turn,
//! the gates against a device's [`CostMatrix`](fleetfoot_predictor::CostMatrix). A [`Training`] trains what was found
//! from scratch; [`to_onnx`] and [`compare`] export it and check the export.

mod allocator;
mod average;
mod batches;
mod calibration;
mod checkpoint;
mod derive;
mod error;
mod export;
mod finalists;
mod gates;
mod latency;
mod layout;
mod learning;
mod loss;
mod mixing;
mod module;
mod optimizer;
mod search;
mod settings;
mod supernet;
mod train;

pub use allocator::keep_memory;
pub use average::Average;
pub use batches::{Augmentation, Batch, Epoch, Feed, Source};
pub use calibration::{Observer, calibrate};
pub use checkpoint::{Checkpoint, RngState};
pub use derive::Judge;
pub use error::SearchError;
pub use export::{
    AgentRuntime, Check, LIMIT, Numbers, Reduced, Runtime, accuracy_percent, compare, to_onnx, to_onnx_in,
};
pub use finalists::{Contest, Finalist, News, draw_finalists};
pub use fleetfoot_dataset::{Classes, Dataset, DatasetError, Form, Images, channel_statistics};
pub use gates::{Gates, Pair, Path, softmax};
pub use latency::{Constraint, LatencyLoss, expected_latency, expected_latency_of_pairs, logit_tensors, mean_latency};
pub use layout::Layout;
pub use learning::{Learning, checkpoint_path, difference};
pub use loss::{accuracy, cross_entropy};
pub use mixing::{Mixing, Targets};
pub use module::{Mode, Module, Parameter};
pub use optimizer::{Sgd, cosine};
pub use search::{Found, Search};
pub use settings::{SearchPoint, SearchSettings};
pub use supernet::{Supernet, Trace};
pub use train::{CLASSIFIER, Init, Recipe, Training, TrainingPoint, check_images, shuffled};
