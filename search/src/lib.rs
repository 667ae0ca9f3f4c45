//! Searching and training networks on libtorch.
//!
//! A [`Module`] interprets a network of `fleetfoot-space`, as the ONNX writer does. A [`Supernet`] holds every candidate
//! of a search space; [`Gates`] draw the [`Path`] that is computed. A [`Search`] lets weights and gates learn in turn,
//! the gates against a device's [`CostMatrix`](fleetfoot_predictor::CostMatrix). A [`Training`] trains what was found
//! from scratch, as a [`Chain`] of modules. Data of one's own are [`Examples`], a loss of one's own is a [`Criterion`].
//! [`to_onnx`] and [`compare`] export it and check the export.

mod allocator;
mod average;
mod batches;
mod calibration;
mod chain;
mod checkpoint;
mod compute;
mod convolution;
mod demand;
mod derive;
mod diagnosis;
mod error;
mod events;
mod export;
mod finalists;
mod fitting;
mod gate_gradient;
mod gates;
mod group;
mod latency;
mod layout;
mod learn;
mod learning;
mod limits;
mod loss;
mod mixing;
mod module;
mod native;
mod optimizer;
mod pipeline;
mod placement;
mod recipe;
mod rivals;
mod search;
mod settings;
mod supernet;
mod tape;
mod train;
mod watching;
mod within;

pub use allocator::keep_memory;
pub use average::Average;
pub use batches::{Batch, Feed, Source};
pub use calibration::{Observer, calibrate};
pub use chain::Chain;
pub use checkpoint::{Checkpoint, RngState};
pub use compute::Compute;
pub use demand::{Demand, DemandError};
pub use derive::{Judge, Score};
pub use diagnosis::{Diagnosed, Diagnosis};
pub use error::SearchError;
pub use events::machine_name;
pub use export::{
    AgentRuntime, Check, LIMIT, Numbers, Reduced, Runtime, accuracy_percent, compare, to_onnx, to_onnx_in,
};
pub use finalists::{Contest, Finalist, News, draw_finalists};
pub use fleetfoot_dataset::{
    Augmentation, Classes, Corrupt, Dataset, DatasetError, Examples, Form, Images, Jitter, Split,
};
pub use gate_gradient::{GateUpdate, by_all_gates, by_reinforce, by_two_paths};
pub use gates::{Cut, Gates, Pair, Path, softmax};
pub use group::{
    ALONE, Agreement, Backend, Dist, Exchange, Group, Launch, LaunchError, Probe, Rendezvous, Transfer, end_at_once,
};
pub use latency::{LatencyLoss, expectation_of_pairs, expected_latency, logit_tensors, mean_latency};
pub use layout::Layout;
pub use learn::{Backward, Learned, Update, learn};
pub use learning::{Account, Learning, checkpoint_path, difference};
pub use limits::{Bound, Limit, Limits};
pub use loss::{Criterion, CrossEntropy, cross_entropy};
pub use mixing::{Mixing, Targets};
pub use module::{Mode, Module, Parameter};
pub use optimizer::{Sgd, cosine};
pub use placement::Placement;
pub use recipe::{Init, Recipe};
pub use rivals::{Allowance, Arena, Method, Rival};
pub use search::{Found, FrontPoint, Reached, Search};
pub use settings::{GatePoint, SearchPoint, SearchSettings};
pub use supernet::{Supernet, Trace};
pub use train::{CLASSIFIER, Evaluation, Training, TrainingPoint, check_images, learned_from};
pub use watching::{SearchEvents, TrainingEvents, remove_events};
