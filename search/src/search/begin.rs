//! What a search begins with: settings that go together, images that are divided.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::batches::Source;
use crate::error::SearchError;
use crate::gate_gradient::GateUpdate;
use crate::latency::LatencyLoss;
use crate::limits::Limits;
use crate::placement::Placement;
use crate::settings::SearchSettings;
use fleetfoot_dataset::{Dataset, Split};

/// Gates stay as they are for the first of so many parts of the search, as the authors' do in the first of 120 epochs.
pub const FROZEN: usize = 120;

/// Settings that contradict each other or the limits.
pub fn check(limits: &Limits, settings: &SearchSettings) -> Result<(), SearchError> {
    if settings.inherit_after > settings.warmup_epochs {
        let (after, warmup) = (settings.inherit_after, settings.warmup_epochs);
        return Err(SearchError::Settings(format!(
            "candidates inherit after {after} epochs, but the warm-up has {warmup}: wanted at most that"
        )));
    }
    if settings.loss == LatencyLoss::MulLog && limits.iter().len() > 1 {
        let what = format!("the loss mul#log takes one limit, {} are given: use add#linear", limits.iter().len());
        return Err(SearchError::Settings(what));
    }
    if settings.lambda.is_some() && settings.loss == LatencyLoss::MulLog {
        return Err(SearchError::Settings(
            "--lambda is the weight of latency in add#linear: mul#log has none".to_owned(),
        ));
    }
    if settings.gate_update == GateUpdate::Reinforce
        && (settings.lambda.is_some() || settings.loss == LatencyLoss::MulLog)
    {
        return Err(SearchError::Settings(
            "--gate-update reinforce has a reward of its own: leave out --loss and --lambda".to_owned(),
        ));
    }
    Ok(())
}

/// Steps of the gates in a search of so many steps of the weights.
pub fn gate_steps(search_steps: usize, settings: &SearchSettings) -> usize {
    (search_steps - search_steps / FROZEN).checked_div(settings.weight_steps).unwrap_or(0)
}

/// Training and validation images, drawn from the training set without overlap.
pub fn split(
    dataset: &Dataset,
    settings: &SearchSettings,
    placement: Placement,
) -> Result<(Source, Source), SearchError> {
    let wanted = settings.train_images.saturating_add(settings.validation_images);
    let too_few = settings.train_images < settings.batch || settings.validation_images < settings.gate_batch;
    if too_few || wanted > dataset.train.len() {
        return Err(SearchError::Settings(format!(
            "{} training images in batches of {} and {} validation images in batches of {}, of a set of {}: each needs \
             at least a batch, both together at most the set",
            settings.train_images,
            settings.batch,
            settings.validation_images,
            settings.gate_batch,
            dataset.train.len()
        )));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
    rng.set_stream(2);
    let (order, statistics) = (dataset.train.shuffled(&mut rng), dataset.train.channel_statistics()?);
    let source = |images: Split| Source { images, statistics: statistics.clone(), placement };
    let train = source(order.subset(0..settings.train_images));
    Ok((train, source(order.subset(settings.train_images..wanted))))
}
