//! How far measurements of files repeat.

use std::collections::{HashMap, HashSet};
use std::io::{self, StdoutLock, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use fleetfoot_predictor::WholeNetworks;
use fleetfoot_profiler::Conditions;
use fleetfoot_space::{Architecture, SearchSpace};
use serde::Serialize;

use super::networks::repeatability;
use crate::evidence;

/// How far networks' latencies repeat that were measured more than once.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Repeated {
    /// Standard deviation of one network's latency, root mean square over the networks, in percent.
    repeatability_percent: f64,
    /// Networks that tell it.
    repeated_networks: usize,
}

impl Repeated {
    /// Of those of the networks that are evaluated, by what stands of them in the file itself and in those of the same measured again;
    /// `None` where none was measured more than once.
    pub fn new(
        space: &SearchSpace,
        (networks, origin): (&WholeNetworks, &Path),
        again: &[PathBuf],
        is_evaluated: impl Fn(&Architecture) -> bool,
    ) -> Result<Option<Self>> {
        let mut all = vec![networks.clone()];
        for path in again {
            if path.canonicalize().is_ok_and(|path| origin.canonicalize().is_ok_and(|origin| origin == path)) {
                bail!("--again {}: that is the file itself, not the networks measured again", path.display());
            }
            let other = evidence::networks(path, space)?;
            let conditions = [networks, &other].map(|networks| Conditions::from_provenance(networks.provenance()));
            if let [Some(first), Some(other)] = conditions {
                first.compatible(&other).with_context(|| {
                    format!(
                        "{} was measured under other conditions: it says nothing of the repeatability",
                        path.display()
                    )
                })?;
            }
            all.push(other);
        }
        let mut values: HashMap<&Architecture, Vec<f64>> = HashMap::new();
        for network in
            all.iter().flat_map(WholeNetworks::networks).filter(|network| is_evaluated(&network.architecture))
        {
            values.entry(&network.architecture).or_default().push(network.latency.ms());
        }
        let values: Vec<Vec<f64>> = values.into_values().filter(|values| values.len() > 1).collect();
        let repeated_networks = values.len();
        if repeated_networks == 0 && !again.is_empty() {
            let evaluated: HashSet<&Architecture> = networks.pairs().map(|(architecture, _)| architecture).collect();
            let evaluated = evaluated.into_iter().filter(|architecture| is_evaluated(architecture)).count();
            let files: Vec<String> = again.iter().map(|path| path.display().to_string()).collect();
            bail!("--again {}: none of the {evaluated} networks that are predicted stands there", files.join(" "));
        }
        Ok((repeated_networks > 0).then(|| Self { repeatability_percent: repeatability(&values), repeated_networks }))
    }

    /// For people.
    pub fn print(&self, out: &mut StdoutLock<'_>) -> io::Result<()> {
        let Self { repeatability_percent, repeated_networks } = self;
        writeln!(
            out,
            "repeatability     {repeatability_percent:.2} % ({repeated_networks} networks measured more than once)"
        )
    }
}
