//! A loss of one's own is what weights, gates and derivation learn and judge by, and what a run belongs to.

mod common;

use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use common::{Ordinal, TINY, limits, noise, settings, tiny};
use fleetfoot_search::{
    Batch, Classes, Compute, Contest, Criterion, CrossEntropy, Dataset, GateUpdate, Images, Layout, Learning, Mode,
    Path, Recipe, Search, SearchError, SearchSettings, Source, Split, Training, checkpoint_path,
};
use fleetfoot_space::{Architecture, SearchSpace};
use tch::{Kind, Tensor, no_grad};

const OWN: Ordinal = Ordinal { scored: true };

fn search(criterion: impl Criterion + 'static, settings: SearchSettings) -> Search {
    Search::new(&tiny(), limits(7.0), &noise(64), settings).unwrap().with_criterion(Arc::new(criterion))
}

fn training(criterion: impl Criterion + 'static) -> Training {
    let recipe = Recipe { epochs: 2, batch: 8, train_images: 40, shift: 1, seed: 2, ..Recipe::default() };
    let architecture = tiny().parse_architecture("1021").unwrap();
    Training::new(&tiny(), &architecture, &noise(64), recipe).unwrap().with_criterion(Arc::new(criterion))
}

/// All of these images in one batch, as evaluations see them.
fn batch(images: Split, statistics: Vec<(f32, f32)>) -> Batch {
    let count = images.len();
    Source { images, statistics, placement: Layout::ChannelsLast.into() }.in_order(count).next().unwrap().unwrap()
}

/// Mean loss and sum of scores by hand.
fn by_hand(logits: &Tensor, labels: &Tensor) -> (f64, f64) {
    let sum = |values: Tensor| values.sum(Kind::Double).double_value(&[]);
    let loss = sum(OWN.losses(logits, labels, 0.0).unwrap()) / labels.size()[0] as f64;
    (loss, sum(OWN.scores(logits, labels).unwrap()))
}

fn paths() -> impl Iterator<Item = Path> {
    (0..192).map(|index| Path(vec![index / 48, index / 12 % 4, index / 4 % 3, index % 4]))
}

#[test]
fn weights_learn_by_it() {
    let mut search = search(OWN, settings());
    let batch = batch(search.split().train.subset(0..8), vec![(0.5, 0.3)]);
    let expected: Vec<(f64, f64)> = paths()
        .map(|path| {
            let logits = no_grad(|| search.supernet().forward(&path, &batch.images, Mode::Probe)).unwrap();
            by_hand(&logits, &batch.labels)
        })
        .collect();
    let (loss, score) = search.weight_step(&batch, 0.1).unwrap();
    let one = |(by_hand, right): &(f64, f64)| (loss - by_hand).abs() < 1e-5 && (score - right / 8.0).abs() < 1e-9;
    assert!(expected.iter().any(one), "{loss} {score} are no path's");
}

#[test]
fn networks_are_judged_derived_and_held_against_rivals_by_it() {
    let search = search(OWN, settings());
    let statistics = noise(64).train.channel_statistics().unwrap();
    let batch = batch(search.split().test, statistics);
    let judged = |choices: Vec<usize>| search.judge(&Architecture::new(choices).unwrap()).unwrap();
    let near = |a: f64, b: f64| (a - b).abs() < 1e-5;
    for path in [vec![0, 1, 2, 3], vec![3, 3, 0, 3]] {
        let logits = no_grad(|| search.supernet().forward(&Path(path.clone()), &batch.images, Mode::Probe)).unwrap();
        let (loss, right) = by_hand(&logits, &batch.labels);
        let score = judged(path);
        assert!(near(score.loss, loss) && near(score.right, right), "{score:?} {loss} {right}");
    }
    // No exchange that fits is better by this loss.
    let found = search.refined(24, &mut |line| assert!(line.contains("ordinal, scored: true"), "{line}")).unwrap();
    let reached = judged(found.architecture.choices().collect()).loss;
    let fitting = paths().filter(|path| search.limits().fit(&Architecture::new(path.0.clone()).unwrap()));
    let exchanges = fitting.filter(|path| {
        path.0.iter().zip(found.architecture.choices()).filter(|(other, own)| *other != own).count() == 1
    });
    let losses: Vec<f64> = exchanges.map(|path| judged(path.0).loss).collect();
    assert!(losses.len() > 3 && losses.iter().all(|loss| *loss >= reached - 1e-5), "{reached} {losses:?}");
    for rival in search.rivals(search.limits(), &found.architecture, &mut |_| {}).unwrap() {
        let score = search.judge(&rival.architecture.parse().unwrap()).unwrap();
        assert_eq!((rival.cross_entropy, rival.accuracy_percent), (score.loss, 100.0 * score.right / 24.0));
    }
}

#[test]
fn gates_by_reinforce_follow_its_score() {
    let moved = |criterion| {
        let settings = SearchSettings { gate_update: GateUpdate::Reinforce, soft: true, ..settings() };
        let mut search = search(criterion, settings);
        let (before, batch) = (search.gates().logits().to_vec(), batch(search.split().test, vec![(0.5, 0.3)]));
        search.gate_step(&batch).unwrap();
        search.gates().logits() != before
    };
    assert!(moved(OWN));
    assert!(!moved(Ordinal { scored: false }), "where nothing is worth anything, nothing is learned");
}

#[test]
fn a_training_is_tested_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut training = training(OWN);
    training.run(folder.path(), &AtomicBool::new(false), &mut |_| {}).unwrap();
    let batch = batch(noise(64).test, training.statistics().to_vec());
    let logits = no_grad(|| training.chain().forward(&batch.images, Mode::Eval)).unwrap();
    let (loss, right) = by_hand(&logits, &batch.labels);
    let evaluation = training.evaluate().unwrap();
    assert!((evaluation.loss - loss).abs() < 1e-5, "{evaluation:?} {loss}");
    assert!((evaluation.accuracy_percent - 100.0 * right / 16.0).abs() < 1e-5, "{evaluation:?} {right}");
}

/// Stops a run behind some steps and goes on with it, by the same loss: all is as if it hadn't been stopped; by another one it
/// is refused.
fn goes_on_by_the_same_loss_only<R: Learning>(
    ours: impl Fn() -> R,
    others: Vec<R>,
    restore: impl Fn(&mut R, &FilePath) -> Result<(), SearchError>,
    hash: impl Fn(&R) -> String,
) {
    let folder = tempfile::tempdir().unwrap();
    let mut whole = ours();
    whole.run(folder.path(), &AtomicBool::new(false), &mut |_| {}).unwrap();
    let mut first = ours();
    (0..7).for_each(|_| first.advance(folder.path()).unwrap());
    first.save(folder.path()).unwrap();
    let mut second = ours();
    restore(&mut second, folder.path()).unwrap();
    (7..second.total_steps()).for_each(|_| second.advance(folder.path()).unwrap());
    assert_eq!(hash(&second), hash(&whole));
    for mut other in others {
        let error = restore(&mut other, folder.path()).unwrap_err().to_string();
        assert!(error.contains("it belongs to another loss") && error.contains("--force"), "{error}");
    }
}

#[test]
fn a_run_goes_on_by_the_loss_that_it_began_with() {
    tch::set_num_threads(1);
    let searches = vec![search(CrossEntropy, settings()), search(Ordinal { scored: false }, settings())];
    let ours = || search(OWN, settings());
    goes_on_by_the_same_loss_only(ours, searches, |search, folder| search.restore(folder), |s| s.hash().unwrap());
    let trainings = vec![training(CrossEntropy), training(Ordinal { scored: false })];
    let ours = || training(OWN);
    goes_on_by_the_same_loss_only(ours, trainings, |training, folder| training.restore(folder), |t| t.hash().unwrap());
}

#[test]
fn checkpoints_that_name_no_loss_are_of_cross_entropy() {
    let folder = tempfile::tempdir().unwrap();
    let path = checkpoint_path(folder.path());
    let unname = || {
        let mut bytes = std::fs::read(&path).unwrap();
        let entry = br#"\"criterion\":\"cross entropy\","#;
        let start = bytes.windows(entry.len()).position(|window| window == entry).unwrap();
        bytes[start..start + entry.len()].fill(b' ');
        std::fs::write(&path, bytes).unwrap();
    };
    search(CrossEntropy, settings()).save(folder.path()).unwrap();
    unname();
    search(CrossEntropy, settings()).restore(folder.path()).unwrap();
    search(OWN, settings()).restore(folder.path()).unwrap_err();
    training(CrossEntropy).save(folder.path()).unwrap();
    unname();
    training(CrossEntropy).restore(folder.path()).unwrap();
    training(OWN).restore(folder.path()).unwrap_err();
}

#[test]
fn finalists_are_trained_and_ranked_by_it() {
    let (search, space, folder) = (search(OWN, settings()), tiny(), tempfile::tempdir().unwrap());
    let (dataset, recipe) = (search.split(), search.finalist_recipe(1));
    let contest = |criterion: &Arc<dyn Criterion>| {
        let contest = Contest {
            space: &space,
            limits: search.limits(),
            dataset: &dataset,
            recipe: &recipe,
            criterion: Arc::clone(criterion),
            recompute: false,
            folder: folder.path().to_path_buf(),
            threads: 1,
            compute: Compute::Cpu,
        };
        contest.run(&["3323".parse().unwrap()], &AtomicBool::new(false), &|_| {})
    };
    let trained = contest(search.criterion()).unwrap().remove(0);
    let architecture = space.parse_architecture("3323").unwrap();
    let training = Training::new(&space, &architecture, &dataset, recipe.clone()).unwrap();
    let mut training = training.with_criterion(Arc::new(OWN));
    let elsewhere = tempfile::tempdir().unwrap();
    tch::set_num_threads(1);
    training.run(elsewhere.path(), &AtomicBool::new(false), &mut |_| {}).unwrap();
    let alone = training.evaluate().unwrap();
    assert_eq!((trained.cross_entropy, trained.accuracy_percent), (alone.loss, alone.accuracy_percent));
    let error = contest(&(Arc::new(CrossEntropy) as Arc<dyn Criterion>)).unwrap_err().to_string();
    assert!(error.contains("3323.json") && error.contains("another loss"), "{error}");
}

/// Does one thing wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    OneLoss,
    NoGradient,
    OneScore,
}

impl Criterion for Wrong {
    fn name(&self) -> String {
        format!("{self:?}")
    }

    fn losses(&self, logits: &Tensor, labels: &Tensor, smoothing: f64) -> Result<Tensor, SearchError> {
        let losses = CrossEntropy.losses(logits, labels, smoothing)?;
        Ok(match self {
            Self::OneLoss => losses.f_mean(None)?,
            Self::NoGradient => losses.f_detach()?,
            Self::OneScore => losses,
        })
    }

    fn scores(&self, logits: &Tensor, labels: &Tensor) -> Result<Tensor, SearchError> {
        let scores = CrossEntropy.scores(logits, labels)?;
        Ok(if *self == Self::OneScore { scores.f_sum(Kind::Int64)? } else { scores })
    }
}

#[test]
fn what_is_no_loss_and_no_score_is_named_with_what_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    for (criterion, wanted) in [
        (Wrong::OneLoss, "its losses have the extents [], wanted [8]: one for each image"),
        (Wrong::NoGradient, "no gradient"),
        (Wrong::OneScore, "its scores have the extents [], wanted [8]"),
    ] {
        let error = search(criterion, settings()).advance(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("the criterion '{criterion:?}'")) && error.contains(wanted), "{error}");
        let error = training(criterion).advance(folder.path()).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

/// No number for batches of the gates' size.
#[derive(Clone, Copy, Debug)]
struct Lost;

impl Lost {
    const GATE_BATCH: usize = 12;

    fn lose(values: &Tensor) -> Result<Tensor, SearchError> {
        let factor = if values.size() == [Self::GATE_BATCH as i64] { f64::NAN } else { 1.0 };
        Ok(values.f_to_kind(Kind::Float)?.f_mul_scalar(factor)?)
    }
}

impl Criterion for Lost {
    fn name(&self) -> String {
        "lost".to_owned()
    }

    fn losses(&self, logits: &Tensor, labels: &Tensor, smoothing: f64) -> Result<Tensor, SearchError> {
        Self::lose(&CrossEntropy.losses(logits, labels, smoothing)?)
    }

    fn scores(&self, logits: &Tensor, labels: &Tensor) -> Result<Tensor, SearchError> {
        Self::lose(&CrossEntropy.scores(logits, labels)?)
    }
}

#[test]
fn gates_learn_from_numbers_alone_and_the_last_checkpoint_stays() {
    for gate_update in [GateUpdate::TwoPaths, GateUpdate::AllGates, GateUpdate::Reinforce] {
        let folder = tempfile::tempdir().unwrap();
        let settings = SearchSettings { gate_update, gate_batch: Lost::GATE_BATCH, weight_steps: 2, ..settings() };
        let mut search = search(Lost, settings.clone());
        let warmup = search.total_steps() / 2;
        while search.step() <= warmup {
            search.advance(folder.path()).unwrap();
        }
        search.save(folder.path()).unwrap();
        let error = search.run(folder.path(), &AtomicBool::new(false), &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains(&format!("no number in step {}", warmup + 2)), "{error}");
        assert!(search.gates().probabilities().iter().flatten().all(|p| p.is_finite()));
        let mut again = self::search(Lost, settings);
        again.restore(folder.path()).unwrap();
        assert_eq!(again.step(), warmup + 1);
    }
}

/// The squared distance of one output from a label that is a quantity of up to 200.
#[derive(Debug)]
struct Quantity;

impl Criterion for Quantity {
    fn name(&self) -> String {
        "squared distance".to_owned()
    }

    fn losses(&self, outputs: &Tensor, labels: &Tensor, _: f64) -> Result<Tensor, SearchError> {
        Ok(outputs.f_squeeze_dim(1)?.f_sub(&labels.f_to_kind(Kind::Float)?.f_div_scalar(200.0)?)?.f_square()?)
    }

    fn scores(&self, outputs: &Tensor, labels: &Tensor) -> Result<Tensor, SearchError> {
        Ok(1.0 - self.losses(outputs, labels, 0.0)?.f_sqrt()?.f_clamp_max(1.0)?)
    }
}

#[test]
fn a_quantity_is_learned_by_a_space_of_one_output() {
    let space = SearchSpace::from_toml(&TINY.replace("classes = 4", "classes = 1"), "one").unwrap();
    // Grey images, as bright as their label says, under noise.
    let set = |n: usize| Images {
        channels: 1,
        height: 12,
        width: 12,
        classes: Classes::AtLeast(1),
        pixels: (0..n * 144).map(|pixel| (pixel / 144 * 37 % 200 + pixel * 89 % 50) as u8).collect(),
        labels: (0..n).map(|image| (image * 37 % 200) as u16).collect(),
    };
    let dataset = Dataset { name: "greys".into(), train: set(320).into(), test: set(100).into() };
    let recipe = Recipe { epochs: 3, batch: 16, train_images: 320, shift: 0, ..Recipe::default() };
    let architecture = space.parse_architecture("0000").unwrap();
    let training = Training::new(&space, &architecture, &dataset, recipe).unwrap();
    let mut training = training.with_criterion(Arc::new(Quantity));
    let folder = tempfile::tempdir().unwrap();
    training.run(folder.path(), &AtomicBool::new(false), &mut |_| {}).unwrap();
    // Whoever always says 100 is off by 50 on average.
    let off = 200.0 * (1.0 - training.evaluate().unwrap().accuracy_percent / 100.0);
    assert!(off < 20.0, "{off}");
}
