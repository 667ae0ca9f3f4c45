//! What decides a result that a device measures.

use anyhow::Result;
use fleetfoot_profiler::{Configuration, DeviceConfig, Plan, Subject};
use serde_json::Value;

use crate::measuring::JOURNAL_FORMAT;

/// Keys of a device's configuration that lead to one of several identical devices, or say where something lies there.
const PLACES: [&str; 9] = [
    "agent",
    "description",
    "device_agent",
    "folder",
    "host",
    "provider_library",
    "reconnect_seconds",
    "runtime_library",
    "serial",
];

/// Name of the digest of what is measured.
pub const MODELS: &str = "their models";

/// Everything that decides what a device measures of subjects, but for which shard of it is measured and what may differ between
/// identical devices: where they are, and where things lie on them. `of` is what is measured, such as a space's name.
pub fn setup(
    (kind, of): (&str, &str),
    device: &DeviceConfig,
    subjects: &[Subject],
    plan: &Plan,
    asked: &[(&str, String)],
) -> Result<Configuration> {
    let mut setup = Configuration::default();
    setup.set("kind", kind);
    setup.set("tool", format!("fleetfoot {}", env!("CARGO_PKG_VERSION")));
    setup.set("journal's form", JOURNAL_FORMAT);
    setup.set("space", of);
    for (name, value) in asked {
        setup.set(name, value);
    }
    let configured = serde_json::to_value(device)?;
    let keys = configured.as_object().into_iter().flatten();
    for (key, value) in keys.filter(|(key, value)| !PLACES.contains(&key.as_str()) && **value != Value::Null) {
        setup.set(&format!("device's {key}"), value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    setup.set("plan", planned(plan));
    setup.set("statistic", plan.statistic);
    setup.set("seed", plan.seed);
    setup.set("subjects", subjects.len());
    setup.set("their names", subjects.iter().map(|subject| subject.name.as_str()).collect::<Vec<_>>().join(" "));
    setup.set(MODELS, Subject::digest(subjects));
    Ok(setup)
}

/// How long to measure, in words.
fn planned(plan: &Plan) -> String {
    let Plan { min_rounds, max_rounds, max_time, half_width, common_half_width, sitting, visit, soak, .. } = plan;
    let time = max_time.map_or_else(String::new, |most| format!(", at most {} s", most.as_secs()));
    format!(
        "{min_rounds} to {max_rounds} rounds{time}, until within {half_width} and {common_half_width}, visits of {} ms, a process for \
         {sitting} rounds, busy for {} s before; {:?}",
        visit.as_secs_f64() * 1e3,
        soak.as_secs(),
        plan.standing,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_to_one_of_identical_devices_decides_nothing() {
        let device = |toml: &str| DeviceConfig::parse(toml, "x").unwrap();
        let of = |device: &DeviceConfig, plan: &Plan| setup(("latency table", "s"), device, &[], plan, &[]).unwrap();
        let plan = Plan::default();
        let one = of(&device("name = \"pi\"\ntransport = \"ssh\"\nhost = \"a\""), &plan);
        let other = of(&device("name = \"pi\"\ntransport = \"ssh\"\nhost = \"b\"\nfolder = \"/srv\""), &plan);
        assert_eq!(one.difference(&other), None);
        let faster = of(&device("name = \"pi\"\ntransport = \"ssh\"\nhost = \"b\"\nthreads = 4"), &plan);
        assert_eq!(one.difference(&faster).unwrap(), "device's threads: '1' against '4'");
        let longer = of(
            &device("name = \"pi\"\ntransport = \"ssh\"\nhost = \"a\""),
            &Plan { min_rounds: 30, ..Plan::default() },
        );
        assert!(one.difference(&longer).unwrap().starts_with("plan: '25 to 120 rounds"));
    }
}
