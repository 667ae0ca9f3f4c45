//! What a step of the search costs: weight step (one path), gate step (two candidates of every decision), all candidates
//! after each other; in both memory orders, interleaved. One JSON line a configuration; times are medians in seconds.
//! `make bench` runs it; `FLEETFOOT_BENCH_STEPS` sets the number of steps (default 20).

use std::time::Instant;

use fleetfoot_predictor::CostMatrix;
use fleetfoot_search::{
    Batch, Classes, Constraint, Dataset, Images, Jitter, LatencyLoss, Layout, Search, SearchError, SearchSettings,
    Split,
};
use fleetfoot_space::SearchSpace;
use tch::{Device, Kind, Tensor};

const BATCH: usize = 64;

fn main() -> Result<(), SearchError> {
    fleetfoot_search::keep_memory();
    let steps = std::env::var("FLEETFOOT_BENCH_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(20);
    for threads in [1, 2] {
        tch::set_num_threads(threads);
        let mut searches = [search(true)?, search(false)?];
        let mut times = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
        // The first step of each kind allocates and isn't counted.
        for step in 0..=steps {
            for ((search, layout), times) in
                searches.iter_mut().zip([Layout::ChannelsLast, Layout::Nchw]).zip(&mut times)
            {
                let (weight, gate) = (batch(layout)?, batch(layout)?);
                let start = Instant::now();
                search.weight_step(&weight, 0.01)?;
                let middle = Instant::now();
                search.gate_step(&gate)?;
                if step > 0 {
                    times.0.push((middle - start).as_secs_f64());
                    times.1.push(middle.elapsed().as_secs_f64());
                }
            }
        }
        for (layout, (weight, gate)) in ["channels-last", "nchw"].into_iter().zip(&mut times) {
            let (weight, gate) = (median(weight), median(gate));
            #[allow(clippy::print_stdout)] // its output is data
            {
                println!(
                    "{{\"space\":\"fashion-28\",\"batch\":{BATCH},\"threads\":{threads},\"layout\":\"{layout}\",\
                 \"weight_step_s\":{weight:.4},\"gate_step_s\":{gate:.4},\"gate_to_weight\":{:.3}}}",
                    gate / weight
                );
            }
        }
    }
    Ok(())
}

fn search(channels_last: bool) -> Result<Search, SearchError> {
    let space = SearchSpace::load("fashion-28")?;
    let rows = space.decisions().iter().map(|decision| vec![0.02; decision.candidates.len()]).collect();
    let images = Images {
        channels: 1,
        height: 28,
        width: 28,
        classes: Classes::Exactly(10),
        pixels: vec![0; 784 * 256],
        labels: vec![0; 256],
    };
    let images = Split::from(images);
    let dataset = Dataset { name: "none".to_owned(), train: images.clone(), test: images };
    let settings = SearchSettings {
        warmup_epochs: 0,
        search_epochs: 1,
        inherit_after: 0,
        batch: BATCH,
        gate_batch: BATCH,
        train_images: BATCH,
        validation_images: BATCH,
        warmup_lr: 0.05,
        search_lr: 0.025,
        alpha_lr: 1e-3,
        weight_steps: 1,
        loss: LatencyLoss::AddLinear,
        constraint: Constraint::fixed(0.1),
        target_ms: 0.3,
        smoothing: 0.1,
        shift: 0,
        flip: false,
        crop: None,
        jitter: Jitter::NONE,
        seed: 1,
        channels_last,
    };
    let costs = CostMatrix { constant_ms: 0.1, rows };
    Search::new(
        &space,
        CostMatrix { rows: costs.rows.into_iter().map(first_free).collect(), ..costs },
        &dataset,
        settings,
    )
}

/// One cheap candidate, so that the target lies within the space.
fn first_free(mut row: Vec<f64>) -> Vec<f64> {
    row[0] = 0.0;
    row[1] = 0.1;
    row
}

fn batch(layout: Layout) -> Result<Batch, SearchError> {
    let images = Tensor::f_randn([BATCH as i64, 1, 28, 28], (Kind::Float, Device::Cpu))?;
    let labels = Tensor::f_randint(10, [BATCH as i64], (Kind::Int64, Device::Cpu))?;
    Ok(Batch { images: layout.arrange(&images)?, labels })
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
