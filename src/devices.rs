//! `fleetfoot devices`: what is configured, and what can be reached.

use std::io::{self, Write};

use anyhow::Result;
use clap::Args;
use fleetfoot_profiler::{Agent, BUILT_IN_DEVICES, DeviceConfig, Unready};
use serde_json::{Value, json};

/// Options of `devices`.
#[derive(Debug, Args)]
pub struct Options {
    /// Further device configurations (TOML files) to try
    #[arg(value_name = "DEVICE")]
    devices: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let shipped = BUILT_IN_DEVICES.iter().map(|(name, _)| (*name).to_owned());
    let devices = shipped.chain(options.devices.iter().cloned());
    let found = devices.map(|name| Ok(describe(&DeviceConfig::load(&name)?))).collect::<Result<Vec<Value>>>()?;
    let mut out = io::stdout().lock();
    if options.json {
        serde_json::to_writer_pretty(&mut out, &found)?;
        writeln!(out)?;
        return Ok(());
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for device in &found {
        let (name, state) = (text(&device["name"]), text(&device["state"]));
        let detail = if state == "ready" {
            format!("{} on {}", text(&device["runtime"]), text(&device["cpu"]))
        } else {
            text(&device["remedy"])
        };
        writeln!(out, "{name:<20} {state:<8} {:<50} {detail}", text(&device["description"]))?;
    }
    Ok(())
}

fn describe(device: &DeviceConfig) -> Value {
    let mut about = json!({ "name": device.name, "description": device.description, "transport": device.transport });
    match Agent::start(device) {
        Ok(agent) => {
            about["state"] = json!("ready");
            about["runtime"] = json!(agent.runtime());
            about["library"] = json!(agent.library());
            about["cpu"] = json!(agent.machine().cpu);
            about["cores"] = json!(agent.machine().cores);
        }
        Err(error) => {
            let Unready { state, what, remedy } = error.unready();
            about["state"] = json!(state);
            about["what"] = json!(what);
            about["remedy"] = json!(remedy);
        }
    }
    about
}
