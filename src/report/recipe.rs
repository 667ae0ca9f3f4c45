//! How a network was trained, and what of it differs between two trainings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What differs without making accuracies incomparable, or stands in a [`Recipe`] by itself.
const BESIDE: [&str; 6] = ["batch", "channels_last", "epochs", "lr", "seed", "train_images"];
/// Letters of a checksum that are shown.
const SHORT: usize = 12;

/// How a network was trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// The images.
    pub dataset: String,
    /// Passes over the training images.
    pub epochs: u64,
    /// Number of training images.
    pub train_images: u64,
    /// Number of test images.
    pub test_images: u64,
    /// Images per step.
    pub batch: u64,
    /// Learning rate.
    pub lr: f64,
    /// Threads; they change how long it takes, not what comes out.
    pub threads: Option<u64>,
    /// Everything else, by the names of train.json's `recipe`: smoothing, weight decay, averages, mixing, initial weights, …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, Value>,
}

impl Recipe {
    /// What differs from another, each as `name own instead of other`.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let named = |recipe: &Self| {
            let Self { epochs, train_images, test_images, batch, lr, .. } = *recipe;
            [
                ("dataset", json!(recipe.dataset)),
                ("epochs", json!(epochs)),
                ("train_images", json!(train_images)),
                ("test_images", json!(test_images)),
                ("batch", json!(batch)),
                ("lr", json!(lr)),
            ]
        };
        let beside = named(self).into_iter().zip(named(other)).map(|((key, a), (_, b))| (key, Some(a), Some(b)));
        let mut keys: Vec<&String> = self.settings.keys().chain(other.settings.keys()).collect();
        keys.sort();
        keys.dedup();
        let further = keys
            .into_iter()
            .map(|key| (key.as_str(), self.settings.get(key).cloned(), other.settings.get(key).cloned()));
        let differing = beside.chain(further).filter(|(_, a, b)| a != b);
        differing.map(|(key, a, b)| format!("{key} {} instead of {}", shown(a.as_ref()), shown(b.as_ref()))).collect()
    }
}

/// A setting in words.
fn shown(value: Option<&Value>) -> String {
    match value {
        None => "none".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// The settings of train.json's `recipe`: objects are taken apart, what is off is left out, and what earlier releases
/// didn't state is what they did.
pub fn settings(recipe: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let mut settings = BTreeMap::new();
    for (key, value) in recipe.iter().filter(|(key, _)| !BESIDE.contains(&key.as_str())) {
        match value {
            Value::Null => {}
            Value::Object(parts) => {
                settings.extend(parts.iter().map(|(part, value)| (format!("{key}.{part}"), value.clone())));
            }
            Value::Array(_) => drop(settings.insert(key.clone(), Value::String(value.to_string()))),
            other => drop(settings.insert(key.clone(), other.clone())),
        }
    }
    settings.retain(|key, value| !(key.starts_with("jitter.") && value.as_f64() == Some(0.0)));
    if !settings.is_empty() {
        for (key, value) in
            [("decay", json!(4e-5)), ("decay_bn", json!(true)), ("accumulate", json!(1)), ("amp", json!(false))]
        {
            settings.entry(key.to_owned()).or_insert(value);
        }
    }
    if let Some(Value::String(sum)) = settings.get_mut("init.sha256") {
        *sum = sum.chars().take(SHORT).collect();
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(settings_of: Value) -> Recipe {
        let settings = settings(&serde_json::from_value(settings_of).unwrap());
        let (dataset, threads) = ("mnist".to_owned(), None);
        Recipe { dataset, epochs: 3, train_images: 9, test_images: 9, batch: 3, lr: 0.1, threads, settings }
    }

    #[test]
    fn what_an_earlier_release_did_not_state_is_what_it_did() {
        let jitter = json!({"brightness": 0.0, "contrast": 0.0, "saturation": 0.0});
        let now = json!({"seed": 1, "smoothing": 0.1, "decay": 4e-5, "decay_bn": true, "crop": null, "jitter": jitter,
                         "accumulate": 1, "amp": false});
        let before = json!({"seed": 2, "smoothing": 0.1, "channels_last": false});
        assert_eq!(recipe(now).differences(&recipe(before)), Vec::<String>::new());
    }

    #[test]
    fn differences_are_told_with_both_values() {
        let one =
            json!({"smoothing": 0.1, "ema": 0.999, "init": {"sha256": "0123456789abcdef", "new_classifier": true}});
        let other = json!({"smoothing": 0.0, "decay": 1e-4, "jitter": {"brightness": 0.1}});
        let want = [
            "decay 0.00004 instead of 0.0001",
            "ema 0.999 instead of none",
            "init.new_classifier true instead of none",
            "init.sha256 0123456789ab instead of none",
            "jitter.brightness none instead of 0.1",
            "smoothing 0.1 instead of 0.0",
        ];
        assert_eq!(recipe(one).differences(&recipe(other)), want);
    }
}
