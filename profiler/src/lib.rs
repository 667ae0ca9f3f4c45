//! Measures what operators and networks cost on a device.
//!
//! A [`DeviceConfig`] says how a device is reached and set up; an [`Agent`] is the measuring process there. A
//! [`Campaign`] visits its [`Subject`]s in interleaved rounds and keeps every sample in a [`Journal`]; [`Measurement`]s
//! are computed from samples, and a [`LatencyTable`] holds those of a search space's units.

mod agent;
mod anchored;
mod atomic_file;
mod budget;
mod campaign;
mod checkup;
mod clock;
mod comparison;
mod conditions;
mod configuration;
mod cost;
mod course;
mod csv_text;
mod designs;
mod device;
mod disturbance;
mod doubts;
mod inventory;
mod journal;
mod latency;
mod look;
mod model;
mod networks;
mod node_profiles;
mod pace;
mod provider_share;
mod residents;
mod sittings;
mod statistics;
mod steady;
mod subject;
mod sustained;
mod table;
mod transport;
mod unique;
mod units;
mod unready;
mod usage;
mod vectors;
mod warmup;
mod wire;

pub use agent::{Agent, AgentError, ModelId};
pub use atomic_file::{write_atomically, write_json};
pub use budget::{Budget, BudgetError, BudgetParseError};
pub use campaign::{BestPace, Campaign, CampaignError, Plan, Progress, Standing};
pub use checkup::{Finding, Severity, findings, shared_core, taken_core};
pub use comparison::{Comparison, Ratio};
pub use conditions::{Conditions, Context, ContextParseError, Differences, Provenance};
pub use configuration::{Configuration, sha256};
pub use cost::{Cost, CostParseError};
pub use course::{Course, Moment, Spent};
pub use csv_text::{csv_fault, csv_format, csv_head, csv_records, half_an_interval, missing_end};
pub use device::{BUILT_IN_DEVICES, Cores, DeviceConfig, DeviceError, Hygiene, TransportKind, own_devices};
pub use disturbance::Sharing;
pub use doubts::{Doubt, DoubtParseError, Doubts};
pub use fleetfoot_protocol::{
    Cluster, Core, Fallback, Health, Machine, NodeTime, Optimisation, Pace, Placement, Profiled, Sample, Timed, Timing,
    Whole,
};
pub use inventory::{Described, Phone, phones};
pub use journal::{Header, Journal, JournalError, Records, Soak, Visit};
pub use latency::{Latency, LatencyError};
pub use look::Look;
pub use model::Onnx;
pub use networks::{Attribution, AttributionError, NetworkCampaign};
pub use node_profiles::{NodeProfile, ProfilesCounted};
pub use pace::paces_apart;
pub use provider_share::{PlacementError, ProviderShare};
pub use statistics::{
    Interval, MAD, Measurement, Statistic, Z, mean_width, median, middle_and_spread, relative_variance,
};
pub use subject::{Subject, SubjectError};
pub use sustained::{HALF_MINUTE, Sustained, sustain};
pub use table::{LatencyTable, Row, TableError};
pub use transport::{Silent, Watch};
pub use units::UnitCampaign;
pub use unready::{State, Unready};
pub use usage::{USAGE_REPEATS, Usage, take_usage, tells, usage_of};
