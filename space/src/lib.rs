//! What can be built: shapes, layers, operators, networks, search spaces, and their ONNX form.
//!
//! This crate is pure: it knows neither ONNX Runtime nor libtorch nor a device. Everything else interprets what is
//! defined here. [`Operator`] defines a block as a small graph of [`Layer`]s; [`Network`] joins operators and does the
//! one shape walk; [`SearchSpace`] says which operators may stand where; [`Architecture`] is one choice per decision.

mod architecture;
mod candidate;
mod inference;
mod key;
mod layer;
mod network;
mod onnx;
mod operator;
mod reference;
mod search_space;
mod shape;
mod space_file;
mod text;
mod weights;
mod width;

pub use architecture::{Architecture, ArchitectureParseError, MAX_CANDIDATES};
pub use candidate::{Candidate, CandidateParseError, Decision};
pub use key::{KeyParseError, OperatorKey};
pub use layer::{BATCH_NORM_MOMENTUM, Init, Layer, ParameterSpec, ShapeError};
pub use network::{Network, NetworkError, Node, Source, Unit};
pub use onnx::{OnnxNode, Quantisation, Ranges, onnx_nodes, quantised_nodes, write_calibrated_onnx, write_onnx};
pub use operator::{Operator, OperatorParseError, Part};
pub use reference::evaluate;
pub use search_space::{SearchSpace, SpaceError, preset_names};
pub use shape::{Precision, PrecisionParseError, Shape, ShapeParseError};
pub use text::{RecordLines, line_of_record, without_mark};
pub use weights::{Tensor, Weights, WeightsError};
pub use width::{WidthMultiplier, WidthMultiplierParseError};
