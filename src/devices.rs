//! `fleetfoot devices`: what is configured, what is connected, and what to do about what isn't ready.

mod add;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::thread;

use anyhow::Result;
use clap::{Args, Subcommand};
use fleetfoot_profiler::{
    Agent, BUILT_IN_DEVICES, Described, DeviceConfig, DeviceError, Phone, State, TransportKind, Unready, own_devices,
    phones,
};
use serde_json::{Value, json};

/// Options of `devices`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    /// Further device configurations (TOML files) to try
    #[arg(value_name = "DEVICE")]
    devices: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write a configuration from what a connected device tells
    Add(add::Options),
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    if let Some(What::Add(options)) = &options.what {
        return add::run(options);
    }
    let given = options.devices.iter().map(|name| Ok((name.clone(), DeviceConfig::load(name)?)));
    let mut configured =
        given.collect::<Result<Vec<_>, DeviceError>>()?.into_iter().map(|(name, known)| (name, Ok(known))).collect();
    let shipped = BUILT_IN_DEVICES.iter().map(|(name, _)| ((*name).to_owned(), DeviceConfig::load(name)));
    let mut all: Vec<(String, Result<DeviceConfig, DeviceError>)> = shipped.chain(own()).collect();
    all.append(&mut configured);
    let serials: BTreeSet<String> = all.iter().filter_map(|(_, device)| device.as_ref().ok()?.serial.clone()).collect();
    // Before many ask at once: adb may have to start its server.
    let connected = phones().unwrap_or_default();
    let described = thread::scope(|scope| {
        // Reaching a device may take seconds: all at once.
        let asked: Vec<_> = all.iter().map(|(name, device)| scope.spawn(move || describe(name, device))).collect();
        asked.into_iter().filter_map(|device| device.join().ok()).collect::<Vec<Value>>()
    });
    let connected = connected.into_iter().filter(|phone| !serials.contains(&phone.serial));
    let found: Vec<Value> = described.into_iter().chain(connected.map(|phone| unconfigured(&phone))).collect();
    let mut out = io::stdout().lock();
    if options.json {
        serde_json::to_writer_pretty(&mut out, &found)?;
        writeln!(out)?;
        return Ok(());
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for device in &found {
        let (name, state) = (text(&device["name"]), text(&device["state"]));
        let told = |key: &str| Some(text(&device[key])).filter(|told| !told.is_empty());
        let detail = if state == "ready" {
            let told = ["runtime", "model", "system", "cpu", "remedy"].into_iter().filter_map(told);
            told.collect::<Vec<_>>().join(", ")
        } else {
            [told("what"), told("remedy")].into_iter().flatten().collect::<Vec<_>>().join(": ")
        };
        writeln!(out, "{name:<20} {state:<14} {:<50} {detail}", text(&device["description"]))?;
    }
    Ok(())
}

/// The user's own configurations, by their files' names.
fn own() -> Vec<(String, Result<DeviceConfig, DeviceError>)> {
    let entries = own_devices().and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    let tomls = paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    tomls
        .map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            (name, DeviceConfig::load(&path.to_string_lossy()))
        })
        .collect()
}

fn describe(name: &str, device: &Result<DeviceConfig, DeviceError>) -> Value {
    let device = match device {
        Ok(device) => device,
        Err(error) => {
            let remedy = "name the device in a copy of it, or mend it";
            let what = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            let unready = Unready::new(State::Unconfigured, what, remedy);
            return with_state(json!({ "name": name }), Err(unready));
        }
    };
    let mut about = json!({ "name": device.name, "description": device.description, "transport": device.transport });
    for (key, value) in [("serial", &device.serial), ("host", &device.host)] {
        if let Some(value) = value {
            about[key] = json!(value);
        }
    }
    if matches!(device.transport, TransportKind::Adb | TransportKind::Ssh) {
        return match Described::of(device) {
            Ok(described) => {
                let known = told(about, &described);
                with_state(known, described.unready.map_or(Ok(json!({})), Err))
            }
            Err(unready) => with_state(about, Err(unready)),
        };
    }
    let started = Agent::start(device).map_err(|error| error.unready());
    let told = started.map(|agent| {
        json!({
            "runtime": agent.runtime(),
            "library": agent.library(),
            "cpu": agent.machine().cpu,
            "cores": agent.machine().cores,
        })
    });
    with_state(about, told)
}

/// What a device says of itself, besides.
fn told(mut about: Value, described: &Described) -> Value {
    let Described { model, soc, system, abi, cores, clusters, product: _, unready: _ } = described;
    let cluster = |(khz, cores): &(u64, Vec<usize>)| json!({ "maximum_mhz": khz / 1000, "cores": cores });
    let clusters: Vec<Value> = clusters.iter().map(cluster).collect();
    let told =
        json!({ "model": model, "soc": soc, "system": system, "abi": abi, "cores": cores, "clusters": clusters });
    extend(&mut about, &told);
    about
}

fn extend(about: &mut Value, told: &Value) {
    for (key, value) in told.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        about[key] = value.clone();
    }
}

/// A phone that no configuration names.
fn unconfigured(phone: &Phone) -> Value {
    let about = json!({
        "name": phone.serial,
        "description": phone.model.as_deref().unwrap_or("a phone without a configuration"),
        "transport": TransportKind::Adb,
        "serial": phone.serial,
    });
    match &phone.unready {
        Some(unready) => with_state(about, Err(unready.clone())),
        None => {
            let remedy =
                format!("`fleetfoot devices add --adb {}` writes its configuration", add::quoted(&phone.serial));
            with_state(about, Ok(json!({ "remedy": remedy })))
        }
    }
}

fn with_state(mut about: Value, told: Result<Value, Unready>) -> Value {
    match told {
        Ok(told) => {
            about["state"] = json!("ready");
            extend(&mut about, &told);
        }
        Err(Unready { state, what, remedy }) => {
            about["state"] = json!(state);
            about["what"] = json!(what);
            about["remedy"] = json!(remedy);
        }
    }
    about
}
