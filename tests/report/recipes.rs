//! What differs between the trainings of networks that are compared.

use serde_json::{Value, json};

use super::run_folder::RunFolder;
use super::warnings;

#[test]
fn whatever_of_two_recipes_differs_is_named() {
    let recipe = |change: (&str, Value)| {
        let mut recipe = json!({
            "epochs": 30, "rise_epochs": 1.0, "batch": 128, "train_images": 50000, "lr": 0.05, "smoothing": 0.1,
            "decay": 4e-5, "decay_bn": true, "shift": 2, "flip": true, "crop": null,
            "jitter": {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0}, "seed": 1, "channels_last": true,
        });
        recipe[change.0] = change.1;
        recipe
    };
    let with = |change: (&str, Value)| {
        let run = RunFolder::new();
        for folder in ["found", "found.seed2", "baseline", "baseline.seed2", "widest"] {
            let file = format!("train/{folder}/train.json");
            let mut record = run.read_json(&file);
            let own = if folder == "widest" { change.clone() } else { ("seed", 7.into()) };
            record["recipe"] = recipe(own);
            run.write_json(&file, &record);
        }
        warnings(&run)
    };
    let init = json!({"sha256": "89abcdef0123456789", "new_classifier": false});
    let jitter = json!({"brightness": 0.125, "contrast": 0.0, "saturation": 0.0});
    let cases: [(&str, Value, &str); 14] = [
        ("ema", 0.999.into(), "ema 0.999 instead of none"),
        ("mixup", 0.2.into(), "mixup 0.2 instead of none"),
        ("cutmix", 1.0.into(), "cutmix 1.0 instead of none"),
        ("smoothing", 0.0.into(), "smoothing 0.0 instead of 0.1"),
        ("decay", 1e-4.into(), "decay 0.0001 instead of 0.00004"),
        ("decay_bn", false.into(), "decay_bn false instead of true"),
        ("accumulate", 4.into(), "accumulate 4 instead of 1"),
        ("amp", true.into(), "amp true instead of false"),
        ("init", init, "init.new_classifier false instead of none, init.sha256 89abcdef0123 instead of none"),
        ("rise_epochs", 5.0.into(), "rise_epochs 5.0 instead of 1.0"),
        ("shift", 0.into(), "shift 0 instead of 2"),
        ("flip", false.into(), "flip false instead of true"),
        ("crop", 0.08.into(), "crop 0.08 instead of none"),
        ("jitter", jitter, "jitter.brightness 0.125 instead of none"),
    ];
    for (key, value, want) in cases {
        let warnings = with((key, value));
        let want =
            format!("widest was trained differently from the baseline ({want}): their accuracies can't be compared");
        assert!(warnings.contains(&want) && warnings.lines().count() == 1, "{key}: {warnings}");
    }
    // Seeds and the memory order are no part of it.
    assert_eq!(with(("channels_last", false.into())) + &with(("seed", 9.into())), "");
    // What the record states and what it doesn't can't be told to be equal.
    let run = RunFolder::new();
    let mut record = run.read_json("train/widest/train.json");
    record["recipe"] = json!({"smoothing": 0.1});
    run.write_json("train/widest/train.json", &record);
    assert!(warnings(&run).contains("smoothing 0.1 instead of none"), "{}", warnings(&run));
}

#[test]
fn networks_without_a_seed_in_common_are_told() {
    let run = RunFolder::new();
    run.set("train/widest/train.json", "/seed", 5);
    let want = "widest and the baseline have no seed in common (5; 1, 2): part of their difference is the seeds'\n";
    assert_eq!(warnings(&run), want);
}
