//! Several searches: by several seeds, for several targets.

use anyhow::Result;
use fleetfoot_console::usage;
use fleetfoot_profiler::Configuration;
use fleetfoot_search::ALONE;
use fleetfoot_space::SearchSpace;
use fleetfoot_worklist::Kind;

use super::super::list;
use super::budgets::Target;
use super::{Options, search, settings};

/// Does all of them, or a shard.
pub fn run(options: &Options, targets: &[Target]) -> Result<()> {
    if options.list.shard.is_some() && !options.measure_on.is_empty() {
        return Err(usage(
            "--measure-on measures, which shards would do at once: search by --shard, then measure what was found with `fleetfoot measure --shard`",
        ));
    }
    if let Some(launch) = options.learning.dist.launch()? {
        return Err(usage(format!(
            "{} processes search one network together: leave out --seeds, --targets and --shard, or say --dist off, so that each does a shard of the list",
            launch.size
        )));
    }
    let named = match targets {
        [] => vec![(String::new(), String::new())],
        targets => targets.iter().map(|target| (target.folder(), target.to_string())).collect(),
    };
    let folder = (&options.folder, options.learning.seed);
    list::run(
        &options.list,
        &ALONE,
        folder,
        (Kind::Searches, &named),
        || configuration(options),
        |job, folder| {
            let mut one = Options { folder: folder.clone(), ..options.clone() };
            one.learning.seed = job.seed;
            one.budgets.aim(targets.iter().copied().find(|target| target.to_string() == job.of));
            search(&one, false)
        },
    )
}

/// What decides the results of a list of searches, besides targets and seeds.
fn configuration(options: &Options) -> Result<Configuration> {
    let space = SearchSpace::load(&options.space)?;
    let mut configuration = list::of_space(&space);
    options.budgets.configure(&mut configuration)?;
    let dataset = options.data.load(&space)?;
    list::add_settings(&mut configuration, &settings(options, &dataset.train))?;
    for (name, value) in [
        ("refine_images", options.refine_images),
        ("finalists", options.finalists),
        ("finalist_epochs", options.finalist_epochs),
        ("pareto", options.pareto),
        ("diagnose", options.diagnose),
        ("compare", usize::from(options.compare)),
    ] {
        configuration.set(name, value);
    }
    configuration.set("measure_on", options.measure_on.join(", "));
    Ok(configuration)
}
