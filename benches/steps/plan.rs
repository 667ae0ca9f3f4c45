//! How long a search, and the training of what it finds, takes by the steps that were timed.

use std::str::FromStr;

use serde_json::{Value, json};

/// A search and a training.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Images of the training set.
    images: f64,
    /// Those of them that gates learn from.
    validation: f64,
    /// Epochs of the warm-up.
    warmup: f64,
    /// Epochs of the search behind it.
    search: f64,
    /// Epochs of the training.
    training: f64,
    /// Weight steps for one of the gates.
    weight_steps: f64,
}

/// ImageNet by the schedule of ProxylessNAS' authors.
const PUBLISHED: Plan =
    Plan { images: 1_281_167.0, validation: 50_000.0, warmup: 40.0, search: 120.0, training: 300.0, weight_steps: 5.0 };

impl FromStr for Plan {
    type Err = String;

    /// `name=count,…`; what isn't named is as published.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut plan = PUBLISHED;
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (name, count) = pair.split_once('=').ok_or_else(|| format!("'{pair}': wanted name=count"))?;
            let count: u32 = count.parse().map_err(|_| format!("'{count}' is no count"))?;
            let field = match name {
                "images" => &mut plan.images,
                "validation" => &mut plan.validation,
                "warmup" => &mut plan.warmup,
                "search" => &mut plan.search,
                "training" => &mut plan.training,
                "weight-steps" => &mut plan.weight_steps,
                _ => return Err(format!("there is no '{name}' in a plan")),
            };
            *field = f64::from(count);
        }
        if plan.validation >= plan.images || plan.weight_steps < 1.0 {
            return Err("wanted fewer validation images than images, and at least one weight step".to_owned());
        }
        Ok(plan)
    }
}

impl Plan {
    /// Hours, where a weight step and a gate step of `batch` images each take so many seconds. An image costs the same however
    /// many a step has, and what is trained in the end costs what the drawn paths cost on the mean.
    pub fn hours(&self, batch: f64, weight_step_s: f64, gate_step_s: f64) -> Value {
        let learned = self.images - self.validation;
        let hours = |images: f64, step_s: f64| images / batch * step_s / 3600.0;
        let warmup = hours(learned * self.warmup, weight_step_s);
        let weights = hours(learned * self.search, weight_step_s);
        let gates = hours(learned * self.search / self.weight_steps, gate_step_s);
        let training = hours(self.images * self.training, weight_step_s);
        let rounded = |hours: f64| (hours * 100.0).round() / 100.0;
        json!({
            "warmup": rounded(warmup), "weights": rounded(weights), "gates": rounded(gates), "training": rounded(training),
            "search_in_all": rounded(warmup + weights + gates), "in_all": rounded(warmup + weights + gates + training),
        })
    }
}
