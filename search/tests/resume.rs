//! A run that was stopped and gone on with is the run that was never stopped.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use fleetfoot_predictor::CostMatrix;
use fleetfoot_search::{
    Classes, Compute, Contest, Dataset, Finalist, GateUpdate, Images, LatencyLoss, Learning as _, Limit, Limits, News,
    Recipe, Search, SearchError, SearchSettings, Training, checkpoint_path,
};
use fleetfoot_space::{SearchSpace, Weights};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn space() -> SearchSpace {
    let text = r#"
        name = "tiny"
        classes = 3
        input = { channels = 1, height = 10, width = 10 }
        candidates = ["k3e2", "k5e1", "zero"]
        stem = { channels = 8 }
        first_block = { channels = 8 }
        stages = [{ channels = 8, depth = 2, stride = 1 }]
        head = { channels = 16 }
    "#;
    SearchSpace::from_toml(text, "tiny").unwrap()
}

fn dataset() -> Dataset {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut set = |n: usize| Images {
        channels: 1,
        height: 10,
        width: 10,
        classes: Classes::Exactly(3),
        pixels: (0..n * 100).map(|_| rng.random()).collect(),
        labels: (0..n).map(|i| (i % 3) as u16).collect(),
    };
    Dataset { name: "noise".into(), train: set(90).into(), test: set(30).into() }
}

fn settings() -> SearchSettings {
    SearchSettings {
        warmup_epochs: 2,
        search_epochs: 3,
        inherit_after: 1,
        batch: 8,
        gate_batch: 8,
        train_images: 50,
        validation_images: 30,
        warmup_lr: 0.05,
        search_lr: 0.025,
        alpha_lr: 0.02,
        weight_steps: 2,
        cut_below: 0.0,
        shift: 1,
        seed: 4,
        ..SearchSettings::default()
    }
}

/// A network costs 1 ms, and each decision's candidates this.
fn limits(row: [f64; 3]) -> Limits {
    let costs = CostMatrix::new(1.0, vec![row.to_vec(); 2]).unwrap();
    Limits::new(vec![Limit::latency(costs, 2.0)]).unwrap()
}

fn search_with(settings: SearchSettings) -> Search {
    Search::new(&space(), limits([1.0, 0.7, 0.0]), &dataset(), settings).unwrap()
}

fn search() -> Search {
    search_with(settings())
}

/// Searches in all the ways there are; candidates are cut as soon as may be.
fn ways() -> [SearchSettings; 5] {
    let cutting = || SearchSettings { cut_below: 0.33, alpha_lr: 0.2, ..settings() };
    [
        settings(),
        SearchSettings { accumulate: 2, ..cutting() },
        SearchSettings { gate_update: GateUpdate::AllGates, loss: LatencyLoss::MulLog, ..cutting() },
        SearchSettings { gate_update: GateUpdate::Reinforce, ..cutting() },
        SearchSettings { soft: true, lambda: Some(0.3), ..cutting() },
    ]
}

#[test]
fn a_search_resumed_anywhere_ends_in_the_same_state() {
    tch::set_num_threads(1);
    let mut cuts = 0;
    for settings in ways() {
        let folder = tempfile::tempdir().unwrap();
        let mut whole = search_with(settings.clone());
        whole.run(folder.path(), &AtomicBool::new(false), &mut |_| {}).unwrap();
        let found = whole.found().unwrap();
        let expected = whole.hash().unwrap();
        // Six steps an epoch: in the warm-up, at its end, between gate steps, in mid-epoch, behind a cut, at the last step.
        let cut = whole.cuts().first().map(|cut| cut.step);
        cuts += cut.iter().len();
        for stop_after in [3, 12, 13, 20, 29].into_iter().chain(cut) {
            let folder = tempfile::tempdir().unwrap();
            // Whether blocks are computed twice is no part of the search: it may change from process to process.
            let mut first = search_with(settings.clone()).recomputing(true);
            (0..stop_after).for_each(|_| first.advance(folder.path()).unwrap());
            first.save(folder.path()).unwrap();
            drop(first);
            let mut second = search_with(settings.clone());
            second.restore(folder.path()).unwrap();
            assert_eq!(second.step(), stop_after);
            second.run(folder.path(), &AtomicBool::new(false), &mut |_| {}).unwrap();
            assert_eq!(second.hash().unwrap(), expected, "{settings:?} stopped after {stop_after}");
            assert_eq!(second.found().unwrap(), found);
        }
    }
    assert!(cuts >= 3, "{cuts} searches cut anything");
}

#[test]
fn a_resumed_run_counts_the_time_before_it_was_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = search();
    first.advance(folder.path()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    first.save(folder.path()).unwrap();
    let mut second = search();
    second.restore(folder.path()).unwrap();
    let taken = first.seconds();
    assert!(second.seconds() >= 0.3, "{} of {taken} s", second.seconds());
}

#[test]
fn a_stop_saves_the_state_and_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let error = search().run(folder.path(), &AtomicBool::new(true), &mut |_| {}).unwrap_err();
    assert!(matches!(error, SearchError::Interrupted { .. }) && error.to_string().contains("--resume"));
    let mut resumed = search();
    resumed.restore(folder.path()).unwrap();
    assert_eq!(resumed.step(), 1);
}

#[test]
fn equal_seeds_give_equal_searches_and_other_seeds_others() {
    tch::set_num_threads(1);
    let folder = tempfile::tempdir().unwrap();
    let hash = |seed: u64| {
        let mut search = search_with(SearchSettings { seed, ..settings() });
        (0..8).for_each(|_| search.advance(folder.path()).unwrap());
        search.hash().unwrap()
    };
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
}

fn recipe() -> Recipe {
    Recipe { epochs: 3, batch: 8, train_images: 80, lr: 0.05, shift: 1, seed: 2, ..Recipe::default() }
}

#[test]
fn a_training_resumed_in_mid_epoch_ends_in_the_same_state() {
    ends_alike_wherever_it_was_stopped(recipe(), 14);
}

#[test]
fn so_does_one_with_an_average_of_its_weights_and_mixed_images() {
    let recipe = Recipe { ema: Some(0.9), mixup: Some(0.2), cutmix: Some(1.0), ..recipe() };
    for steps in [1, 7, 14, 20] {
        ends_alike_wherever_it_was_stopped(recipe.clone(), steps);
    }
    ends_alike_wherever_it_was_stopped(Recipe { accumulate: 3, ..recipe.clone() }, 14);
    // Each of these makes another training of it.
    let hash = |recipe: Recipe| {
        let (space, folder) = (space(), tempfile::tempdir().unwrap());
        let architecture = space.parse_architecture("02").unwrap();
        let mut training = Training::new(&space, &architecture, &dataset(), recipe).unwrap();
        training.run(folder.path(), &AtomicBool::new(false), &mut |_| {}).unwrap();
        let weights = training.weights().unwrap();
        let (name, tensor) = weights.iter().next().unwrap();
        (name.to_owned(), tensor.data.clone())
    };
    let all = [
        recipe.clone(),
        Recipe { ema: None, ..recipe.clone() },
        Recipe { mixup: None, ..recipe.clone() },
        Recipe { cutmix: None, ..recipe.clone() },
        Recipe { accumulate: 2, ..recipe.clone() },
        Recipe { decay: 0.01, ..recipe.clone() },
        Recipe { decay: 0.01, decay_bn: false, ..recipe.clone() },
        Recipe { smoothing: 0.0, ..recipe },
    ];
    let hashes: Vec<_> = all.into_iter().map(hash).collect();
    for (index, one) in hashes.iter().enumerate() {
        assert!(!hashes[..index].contains(one), "recipe {index} is like another");
    }
}

#[test]
fn a_trainings_checkpoint_names_its_tensors_as_the_whole_network_does() {
    let (space, folder) = (space(), tempfile::tempdir().unwrap());
    let architecture = space.parse_architecture("02").unwrap();
    let training = Training::new(&space, &architecture, &dataset(), recipe()).unwrap();
    training.save(folder.path()).unwrap();
    let saved = Weights::read(&checkpoint_path(folder.path())).unwrap();
    let saved: Vec<&str> = saved.iter().map(|(name, _)| name).filter(|name| !name.ends_with("#momentum")).collect();
    let whole = Weights::initial(&space.network(&architecture).unwrap(), 0);
    let wanted: Vec<String> = whole.iter().map(|(name, _)| format!("network/{name}")).collect();
    assert_eq!(saved, wanted);
}

#[test]
fn recipes_of_before_are_what_they_were() {
    let text = r#"{"epochs": 3, "rise_epochs": 1.0, "batch": 8, "train_images": 80, "lr": 0.05, "smoothing": 0.1, "shift": 1,
        "flip": true, "seed": 2, "channels_last": true}"#;
    assert_eq!(serde_json::from_str::<Recipe>(text).unwrap(), recipe());
}

/// Of 30 steps in all.
fn ends_alike_wherever_it_was_stopped(recipe: Recipe, steps: usize) {
    tch::set_num_threads(1);
    let space = space();
    let architecture = space.parse_architecture("02").unwrap();
    let training = || Training::new(&space, &architecture, &dataset(), recipe.clone()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut whole = training();
    whole.run(folder.path(), &AtomicBool::new(false), &mut |_| {}).unwrap();
    let mut first = training();
    for _ in 0..steps {
        first.advance(folder.path()).unwrap();
    }
    first.save(folder.path()).unwrap();
    // From here on blocks are computed twice, which is no part of the recipe.
    let mut second = training().recomputing(true);
    second.restore(folder.path()).unwrap();
    second.run(folder.path(), &AtomicBool::new(false), &mut |_| {}).unwrap();
    assert_eq!(second.hash().unwrap(), whole.hash().unwrap());
    assert_eq!(second.evaluate().unwrap(), whole.evaluate().unwrap());
    assert_eq!(second.evaluate_without_average().unwrap(), whole.evaluate_without_average().unwrap());
}

#[test]
fn checkpoints_of_another_run_and_broken_ones_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut one = search();
    one.advance(folder.path()).unwrap();
    one.save(folder.path()).unwrap();
    let mut other = Search::new(&space(), limits([1.0, 0.8, 0.0]), &dataset(), settings()).unwrap();
    assert!(other.restore(folder.path()).unwrap_err().to_string().contains("--force"));
    let path = checkpoint_path(folder.path());
    let bytes = std::fs::read(&path).unwrap();
    for cut in [0, 5, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let error = search().restore(folder.path()).unwrap_err().to_string();
        assert!(error.contains("checkpoint.safetensors"), "{error}");
    }
}

#[test]
fn a_loss_that_is_no_number_is_an_error_and_a_checkpoint_is_named_only_where_there_is_one() {
    let space = space();
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe { lr: 1e30, ..recipe() };
    let diverge = || {
        let mut training =
            Training::new(&space, &space.parse_architecture("02").unwrap(), &dataset(), recipe.clone()).unwrap();
        let error = training.run(folder.path(), &AtomicBool::new(false), &mut |_| {}).unwrap_err();
        assert!(matches!(error, SearchError::Diverged { .. }), "{error}");
        error.to_string()
    };
    assert!(!diverge().contains("checkpoint"));
    search().save(folder.path()).unwrap();
    assert!(diverge().contains("checkpoint.safetensors, is good"));
}

#[test]
fn weights_that_are_no_numbers_are_never_written_over_a_good_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    // The first step's loss is fine, its learning rate isn't.
    let mut search = search_with(SearchSettings { warmup_lr: f64::MAX, ..settings() });
    search.save(folder.path()).unwrap();
    let good = std::fs::read(checkpoint_path(folder.path())).unwrap();
    search.advance(folder.path()).unwrap();
    let error = search.save(folder.path()).unwrap_err();
    assert!(matches!(error, SearchError::NotFinite { .. }) && error.to_string().contains("front/"), "{error}");
    assert!(std::fs::read(checkpoint_path(folder.path())).unwrap() == good);
    // The next step says so.
    let error = search.advance(folder.path()).unwrap_err().to_string();
    assert!(error.contains("in step 2") && error.contains("checkpoint.safetensors, is good"), "{error}");
}

#[test]
fn a_network_that_can_not_be_judged_is_an_error_though_its_training_loss_was_fine() {
    // One pixel and one image: the variance over a batch has no unbiased estimate, the running one becomes NaN.
    let text = r#"
        name = "dot"
        classes = 3
        input = { channels = 1, height = 4, width = 4 }
        candidates = ["k3e2", "zero"]
        stem = { channels = 8 }
        first_block = { channels = 8 }
        stages = [{ channels = 8, depth = 1, stride = 2 }, { channels = 8, depth = 1, stride = 2 }]
        head = { channels = 16 }
    "#;
    let space = SearchSpace::from_toml(text, "dot").unwrap();
    let set = |n: usize| Images {
        channels: 1,
        height: 4,
        width: 4,
        classes: Classes::Exactly(3),
        pixels: (0..n * 16).map(|i| (i * 37 % 251) as u8).collect(),
        labels: (0..n).map(|i| (i % 3) as u16).collect(),
    };
    let dataset = Dataset { name: "dots".into(), train: set(12).into(), test: set(6).into() };
    let recipe = Recipe { batch: 1, train_images: 12, epochs: 1, shift: 0, ..recipe() };
    let architecture = space.parse_architecture("00").unwrap();
    let mut training = Training::new(&space, &architecture, &dataset, recipe).unwrap();
    let folder = tempfile::tempdir().unwrap();
    training.run(folder.path(), &AtomicBool::new(false), &mut |_| {}).unwrap();
    assert!(training.loss().is_finite());
    let error = training.evaluate().unwrap_err();
    assert!(matches!(error, SearchError::Untestable { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("00 on the test images is NaN after 12 steps") && text.contains("raise --batch"), "{text}");
}

/// Trains every finalist of a new search in a folder; stops after so many steps.
fn contest(folder: &Path, threads: usize, stop_after: usize) -> Result<Vec<Finalist>, SearchError> {
    let search = search();
    let (space, dataset, recipe) = (space(), search.split(), search.finalist_recipe(2));
    let limits = limits([1.0, 0.98, 0.0]);
    let finalists = ["02", "20", "12", "21"].map(|text| space.parse_architecture(text).unwrap());
    // Several threads' networks are computed twice: that changes nothing.
    let (folder, recompute) = (folder.to_path_buf(), threads > 1);
    let (limits, criterion, compute) = (&limits, search.criterion().clone(), Compute::Cpu);
    let (space, dataset, recipe) = (&space, &dataset, &recipe);
    let contest = Contest { space, limits, dataset, recipe, criterion, recompute, folder, threads, compute };
    let (stop, steps) = (AtomicBool::new(false), AtomicUsize::new(0));
    let ranked = contest.run(&finalists, &stop, &|news| {
        if let News::Steps(more) = news {
            let before = steps.fetch_add(more, Ordering::Relaxed);
            stop.fetch_or(before + more >= stop_after, Ordering::Relaxed);
        }
    });
    // 50 images in batches of 8, twice.
    assert_eq!(contest.steps(4), 4 * 12);
    assert!(ranked.is_err() || steps.into_inner() == 48);
    ranked
}

#[test]
fn finalists_that_were_stopped_end_as_those_that_were_not_on_any_number_of_threads() {
    let (whole, stopped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = contest(whole.path(), 1, usize::MAX).unwrap();
    assert!(expected.is_sorted_by(|a, b| a.cross_entropy <= b.cross_entropy) && expected.len() == 4);
    // In the middle of the first, and in the middle of a later one.
    for stop_after in [5, 30] {
        let error = contest(stopped.path(), 1, stop_after).unwrap_err();
        assert!(matches!(error, SearchError::Interrupted { .. }), "{error}");
    }
    assert_eq!(contest(stopped.path(), 3, usize::MAX).unwrap(), expected);
    // Nothing is trained twice, and what isn't of this recipe isn't taken for it.
    assert_eq!(contest(whole.path(), 2, usize::MAX).unwrap(), expected);
    let file = whole.path().join("02.json");
    let text = std::fs::read_to_string(&file).unwrap().replace("\"epochs\": 2", "\"epochs\": 3");
    std::fs::write(&file, text).unwrap();
    let error = contest(whole.path(), 1, usize::MAX).unwrap_err();
    assert!(error.to_string().contains("another recipe"), "{error}");
}

#[test]
fn finalists_meet_the_target_and_differ_from_each_other() {
    // Target 2 ms, costs 1 + 1, 0.98 or 0: between 1.9 and 2 ms lie 02, 20, 12, 21.
    let limits = limits([1.0, 0.98, 0.0]);
    let search = Search::new(&space(), limits.clone(), &dataset(), settings()).unwrap();
    let first = space().parse_architecture("22").unwrap();
    let three = search.finalists(&first, 3);
    assert_eq!((three.len(), &three[0]), (3, &first));
    assert_eq!(search.finalists(&first, 3), three);
    let all = search.finalists(&first, 10);
    let mut names: Vec<String> = all[1..].iter().map(ToString::to_string).collect();
    names.sort();
    assert_eq!(names, ["02", "12", "20", "21"], "no more than there are");
}
