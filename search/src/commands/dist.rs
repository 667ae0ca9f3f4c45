//! Several processes that learn together: which this one is, whether all have the same, how fast they talk.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use fleetfoot_console::{speak_as, usage};
use fleetfoot_search::{Agreement, Backend, Compute, Dist, Group, Launch, Probe, machine_name};
use serde::{Deserialize, Serialize};

/// How processes find each other.
#[derive(Clone, Debug, Args)]
pub struct DistOptions {
    /// Who says which of several processes this is that learn together: env (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR,
    /// MASTER_PORT, as torchrun sets them), slurm (srun), ompi (mpirun), auto: whichever of these does, off: nobody. The batch
    /// size is that of all together
    #[arg(long, value_name = "HOW", default_value_t = Dist::Auto)]
    dist: Dist,
    /// What carries gradients between them: gloo, nccl (between GPUs, in builds with it), or auto
    #[arg(long, value_name = "WHAT", default_value_t = Backend::Auto)]
    dist_backend: Backend,
    /// Seconds in which every process has to answer, else the others end with exit status 75 and their last checkpoint
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    dist_timeout: u64,
    /// Only check that all processes find each other and have the same version, space, table, settings and images, and measure
    /// how fast they talk
    #[arg(long)]
    dist_check: bool,
}

impl DistOptions {
    /// Which of several processes this is; `None`: it learns alone. From here on all but the first speak under their rank.
    pub fn launch(&self) -> Result<Option<Launch>> {
        let launch = Launch::of_environment(self.dist).map_err(usage)?;
        if let Some(launch) = launch.as_ref().filter(|launch| launch.rank > 0) {
            speak_as(&format!("rank {}", launch.rank));
        } else if launch.is_none() && self.dist_check {
            return Err(usage(
                "--dist-check is for several processes: start them by torchrun, srun or mpirun (docs/distributed.md)",
            ));
        }
        Ok(launch)
    }

    /// Waits for the others, and makes sure that all have the same. Where only that was asked for, it is told, and nothing is
    /// to be learned: `None`.
    pub fn join(
        &self,
        launch: Option<&Launch>,
        (compute, threads): (Compute, usize),
        alike: Agreement,
    ) -> Result<Option<Arc<Group>>> {
        let Some(launch) = launch else { return Ok(Some(Arc::default())) };
        let group = Group::join(launch, self.dist_backend, compute, Duration::from_secs(self.dist_timeout))?;
        let alike = Agreement::default().told("version", env!("CARGO_PKG_VERSION")).with(alike);
        group.agree(&alike)?;
        if !self.dist_check {
            return Ok(Some(group));
        }
        let host = machine_name().unwrap_or_else(|| "?".to_owned());
        let own = Rank { host, process: std::process::id(), compute: compute.to_string(), threads };
        let ranks = group.gather(&own)?;
        let probe = group.probe()?;
        if group.leads() {
            tell(&group, launch, &ranks, &alike, &probe)?;
        }
        Ok(None)
    }
}

/// What a rank says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Rank {
    host: String,
    process: u32,
    compute: String,
    threads: usize,
}

fn tell(group: &Group, launch: &Launch, ranks: &[Rank], alike: &Agreement, probe: &Probe) -> Result<()> {
    let mut out = io::stdout().lock();
    let (size, backend) = (group.size(), group.backend());
    writeln!(out, "{size} ranks by {backend}, which met at {}", launch.rendezvous)?;
    for (rank, Rank { host, process, compute, threads }) in ranks.iter().enumerate() {
        writeln!(out, "rank {rank}: {host}, process {process}, {compute}, threads: {threads}")?;
    }
    for (what, value) in alike.entries() {
        writeln!(out, "the same on all ranks: {what} {value}")?;
    }
    for transfer in &probe.transfers {
        writeln!(
            out,
            "a sum of {:>9} bytes: {:>9.3} ms ({:.3} to {:.3}), {:>8.1} MB/s from each rank",
            transfer.bytes,
            1e3 * transfer.median_s,
            1e3 * transfer.least_s,
            1e3 * transfer.most_s,
            1e-6 * transfer.bytes_per_s(size),
        )?;
    }
    Ok(())
}
