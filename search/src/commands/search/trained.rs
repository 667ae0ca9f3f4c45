//! Networks that a search trains from scratch: its finalists, and those by which its supernet is diagnosed.

use std::sync::atomic::AtomicBool;

use anyhow::Result;
use fleetfoot_console::Progress;
use fleetfoot_search::{
    Compute, Contest, Diagnosed, Diagnosis, Finalist, Learning as _, Limits, News, Search, SearchError,
};
use fleetfoot_space::{Architecture, SearchSpace};

use super::{DIAGNOSED, FINALISTS, Options};

/// How well the supernet ranks, by networks that are trained for as long as finalists are.
pub fn diagnose(
    options: &Options,
    search: &Search,
    space: &SearchSpace,
    how: (usize, &AtomicBool),
) -> Result<Diagnosis> {
    let networks = search.diagnosed(options.diagnose);
    if networks.len() < options.diagnose {
        eprintln!("only {} networks were found to diagnose with", networks.len());
    }
    let trained = train_all(options, search, space, (&networks, DIAGNOSED, "diagnosed network"), how)?;
    let validation = search.split().test.len().max(1);
    let networks = trained.into_iter().map(|trained| {
        let score = search.judge(&space.parse_architecture(&trained.architecture)?)?;
        Ok(Diagnosed {
            predicted: trained.predicted_ms,
            supernet_cross_entropy: score.loss,
            supernet_accuracy_percent: 100.0 * score.right / validation as f64,
            scratch_cross_entropy: trained.cross_entropy,
            scratch_accuracy_percent: trained.accuracy_percent,
            architecture: trained.architecture,
        })
    });
    let networks = networks.collect::<Result<Vec<Diagnosed>>>()?;
    let diagnosis = Diagnosis::new(networks, options.finalist_epochs, options.learning.seed);
    match (diagnosis.kendall, diagnosis.low, diagnosis.high) {
        (Some(tau), Some(low), Some(high)) => eprintln!(
            "the supernet ranks {} networks as {} epochs from scratch do with Kendall's tau {tau:.2} (90 %: {low:.2} to {high:.2})",
            diagnosis.networks.len(),
            diagnosis.epochs
        ),
        _ => eprintln!("too few networks, or all alike: no rank correlation"),
    }
    Ok(diagnosis)
}

/// Trains the finalists, if there are to be any; best first.
pub fn hold_contest(
    options: &Options,
    search: &Search,
    space: &SearchSpace,
    (first, within): (&Architecture, &Limits),
    how: (usize, &AtomicBool),
) -> Result<Vec<Finalist>> {
    if options.finalists == 0 {
        return Ok(Vec::new());
    }
    let finalists = search.finalists_within(within, first, options.finalists);
    if finalists.len() < options.finalists {
        eprintln!("only {} networks within 5 % below the target were found for the last stage", finalists.len());
    }
    train_all(options, search, space, (&finalists, FINALISTS, "finalist"), how)
}

/// Trains networks from scratch in a folder of the run, best first; `name` is what one is called.
fn train_all(
    options: &Options,
    search: &Search,
    space: &SearchSpace,
    (networks, folder, name): (&[Architecture], &str, &str),
    (threads, stop): (usize, &AtomicBool),
) -> Result<Vec<Finalist>> {
    let limits = search.limits();
    let (dataset, recipe) = (search.split(), search.finalist_recipe(options.finalist_epochs));
    let folder = options.folder.path().join(folder);
    let compute = search.compute();
    // A GPU holds one network's tensors at a time.
    let threads = if compute == Compute::Cpu { threads } else { 1 };
    let contest = Contest {
        space,
        limits,
        dataset: &dataset,
        recipe: &recipe,
        criterion: search.criterion().clone(),
        recompute: options.learning.recompute,
        folder,
        threads,
        compute,
    };
    let bar = Progress::new(contest.steps(networks.len()), 0, &format!("steps of {name}s"))?;
    let ranked = contest.run(networks, stop, &|news| match news {
        News::Steps(steps) => bar.add(steps),
        News::Done(finalist) => bar.say(&format!(
            "{name} {}: predicted {}, cross entropy {:.4}, accuracy {:.2} % on the validation images",
            finalist.architecture,
            limits.first().show(finalist.predicted_ms),
            finalist.cross_entropy,
            finalist.accuracy_percent
        )),
    });
    bar.finish();
    // Each network has its own checkpoint; the search's, which counts the time, is the one to go on from.
    match ranked {
        Err(SearchError::Interrupted { ranks, .. }) => {
            let folder = options.folder.path().to_path_buf();
            search.save(&folder)?;
            Err(SearchError::Interrupted { folder, ranks }.into())
        }
        ranked => Ok(ranked?),
    }
}
