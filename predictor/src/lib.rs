//! What a network would cost on a device: table look-up, regression for what was never measured, cost models for the
//! search, and their evaluation against measurements.
//!
//! A network's latency is the empty graph's (one call of the runtime) plus the sum of its units' costs. A unit's cost
//! is its row in a [`LatencyTable`](fleetfoot_profiler::LatencyTable); where it has none, a [`Regression`] on the
//! unit's features may stand in, marked as what it is.

mod batch;
mod cost;
mod design;
mod evaluation;
mod evidence;
mod features;
mod gaussian;
mod import;
mod learning;
mod model_file;
mod network_model;
mod posterior;
mod predictor;
mod regression;
mod space_table;
mod suggest;
mod whole;

pub use batch::{BatchCosts, BatchError};
pub use cost::{AlphaError, CostError, CostMatrix, Expectation, Sampler};
pub use evaluation::{Coverage, Evaluation, EvaluationError, kendall};
pub use evidence::{Costs, Evidence, Repeated, repeats};
pub use features::{FEATURES, features};
pub use import::{
    Columns, ColumnsError, Fault, Format, ImportError, Imported, ImportedNetworks, LeaveOut, doubts_of_networks,
    import_networks, import_table, is_of_networks, lookup_keys,
};
pub use learning::{CurveError, CurvePoint, Protocol, Spread, learning_curve};
pub use model_file::ModelFileError;
pub use network_model::{NetworkEstimate, NetworkModel, NetworkModelError, NetworkValidation};
pub use predictor::{
    CostModelError, Estimate, EvidenceError, PredictError, Prediction, Predictor, Source, TablePredictor, UnitCost,
    cost_matrix,
};
pub use regression::{Regression, RegressionError, Validation};
pub use space_table::SpaceTable;
pub use suggest::{suggest, suggest_among};
pub use whole::{WholeNetwork, WholeNetworks, WholeNetworksError};
