//! Execution providers: which the agent knows, and how a session is put on one.

use fleetfoot_protocol::EngineError;

/// Where a model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// ONNX Runtime's own CPU kernels.
    Cpu,
}

/// The provider that a configuration names.
pub fn by_name(name: &str) -> Result<Provider, EngineError> {
    match name {
        "cpu" => Ok(Provider::Cpu),
        other => Err(EngineError(format!("unknown execution provider '{other}': this agent knows cpu"))),
    }
}
