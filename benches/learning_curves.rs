//! How good models of whole networks are on files that others measured: a folder of CSVs with `architecture,latency_ms`, one a device. Each
//! file's last networks are predicted by models of consecutive others; with `transfer`, the other files' rows of the other architectures help.
//! Where the folder has a `baselines.csv` (`device,samples,…,spearman,…,rmspe_percent`), errors are compared with it.
//!
//! With `suggest`, models of networks that [`suggest_among`] chooses from 400 consecutive ones are compared with models of the first of them.
//!
//! `cargo bench -p fleetfoot --bench learning_curves -- FOLDER SPACE 10,20,50 [transfer|suggest]`

#![allow(clippy::print_stdout)] // What it finds is what it is for.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use fleetfoot_predictor::{
    Costs, CurvePoint, Evaluation, Evidence, NetworkModel, Protocol, WholeNetwork, WholeNetworks, learning_curve,
    suggest_among,
};
use fleetfoot_space::SearchSpace;

const TEST: usize = 1000;
const WINDOWS: usize = 10;
/// Networks of each other device.
const OTHERS: usize = 900;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

struct Device {
    name: String,
    networks: WholeNetworks,
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [folder, space, samples, rest @ ..] = &arguments[..] else {
        return Err(
            "which files? cargo bench -p fleetfoot --bench learning_curves -- FOLDER SPACE 10,20,50 [transfer|suggest]"
                .into(),
        );
    };
    let space = SearchSpace::load(space)?;
    let samples = samples.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
    let folder = Path::new(folder);
    let devices = devices(folder, &space)?;
    if rest.iter().any(|argument| argument == "suggest") {
        return suggestions(&devices, &space, &samples);
    }
    let baselines = baselines(&folder.join("baselines.csv"));
    let with_transfer = rest.iter().any(|argument| argument == "transfer");
    println!("device          N   RMSPE (%)  /baseline  Spearman  baseline's  in 90 % interval  half width (%)");
    let mut ratios = Vec::new();
    for (index, device) in devices.iter().enumerate() {
        let protocol = Protocol { samples: samples.clone(), test: TEST, windows: WINDOWS, seed: 0, shuffle: false };
        let evidence = if with_transfer { others(&devices, index, &space)? } else { Evidence::default() };
        for point in learning_curve(&space, &device.networks, &evidence, &protocol)? {
            let baseline = baselines.get(&(device.name.clone(), point.samples));
            // A device whose file is a sum of a table's rows has no error left, on either side.
            let ratio = baseline.map(|(rmspe, _)| point.rmspe_percent.mean / rmspe).filter(|ratio| ratio.is_finite());
            ratios.extend(ratio.filter(|ratio| *ratio > 0.0).map(f64::ln));
            print(&device.name, &point, ratio, baseline.map(|(_, spearman)| *spearman));
        }
    }
    if !ratios.is_empty() {
        println!(
            "geometric mean of {} ratios: {:.3}",
            ratios.len(),
            (ratios.iter().sum::<f64>() / ratios.len() as f64).exp()
        );
    }
    Ok(())
}

/// Networks to choose from.
const POOL: usize = 400;

/// Models of suggested networks against models of as many that chance gave.
fn suggestions(devices: &[Device], space: &SearchSpace, samples: &[usize]) -> Outcome<()> {
    println!(
        "device          N   RMSPE (%) of suggested, of random networks   ratio   Spearman of suggested, of random"
    );
    for &samples in samples {
        let mut ratios = Vec::new();
        for device in devices {
            let networks = device.networks.networks();
            let (others, test) = networks.split_at(networks.len().saturating_sub(TEST));
            let mut figures = [[0.0; 2]; 2];
            for window in 0..WINDOWS {
                let first = window * others.len() / WINDOWS;
                let pool: Vec<&WholeNetwork> = others.iter().cycle().skip(first).take(POOL).collect();
                let architectures: Vec<_> = pool.iter().map(|network| network.architecture.clone()).collect();
                let suggested = suggest_among(space, samples, &[], &Evidence::default(), &architectures)?;
                for (figures, chosen) in figures.iter_mut().zip([suggested, (0..samples).collect()]) {
                    let chosen = chosen.into_iter().map(|index| pool[index].clone()).collect();
                    let train = WholeNetworks::new(device.networks.provenance().clone(), chosen);
                    let model = NetworkModel::fit(space, &train, &Evidence::default())?;
                    let pair =
                        |network: &WholeNetwork| Ok((model.predict(&network.architecture)?.ms, network.latency.ms()));
                    let evaluation = Evaluation::new(&test.iter().map(pair).collect::<Outcome<Vec<_>>>()?)?;
                    figures[0] += evaluation.rmspe_percent / WINDOWS as f64;
                    figures[1] += evaluation.spearman.unwrap_or_default() / WINDOWS as f64;
                }
            }
            let [[suggested, ranks], [random, random_ranks]] = figures;
            ratios.push((suggested / random).ln());
            let name = &device.name;
            println!(
                "{name:13} {samples:4} {suggested:11.3} {random:11.3} {:19.3} {ranks:11.3} {random_ranks:11.3}",
                suggested / random
            );
        }
        let mean = (ratios.iter().sum::<f64>() / ratios.len().max(1) as f64).exp();
        println!("geometric mean of {} ratios at {samples}: {mean:.3}", ratios.len());
    }
    Ok(())
}

fn print(name: &str, point: &CurvePoint, ratio: Option<f64>, baseline: Option<f64>) {
    let known = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    println!(
        "{name:13} {:4} {:11.3} {:>10} {:>9} {:>11} {:17.1} {:15.2}",
        point.samples,
        point.rmspe_percent.mean,
        known(ratio),
        known(point.spearman.map(|spearman| spearman.mean)),
        known(baseline),
        point.covered_percent.mean,
        point.half_width_percent.mean,
    );
}

fn devices(folder: &Path, space: &SearchSpace) -> Outcome<Vec<Device>> {
    let paths = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Outcome<Vec<PathBuf>>>()?;
    let is_device = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "csv") && !path.ends_with("baselines.csv")
    };
    let mut paths: Vec<PathBuf> = paths.into_iter().filter(is_device).collect();
    paths.sort();
    let device = |path: PathBuf| {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Device { name, networks: WholeNetworks::read(&path, space)?.0 })
    };
    paths.into_iter().map(device).collect()
}

/// What the other devices take, without the architectures that are predicted here.
fn others(devices: &[Device], own: usize, space: &SearchSpace) -> Outcome<Evidence> {
    let networks = devices[own].networks.networks();
    let tested = networks.iter().rev().take(TEST).map(|network| network.architecture.clone());
    let tested: HashSet<_> = tested.collect();
    let mut others = Vec::new();
    for (_, device) in devices.iter().enumerate().filter(|(index, _)| *index != own) {
        let known = device.networks.without(&tested);
        let few: Vec<WholeNetwork> = known.networks().iter().take(OTHERS).cloned().collect();
        let few = WholeNetworks::new(known.provenance().clone(), few);
        others.push(Costs::of_model(&NetworkModel::fit(space, &few, &Evidence::default())?));
    }
    Ok(Evidence { table: None, others })
}

/// Errors and rank correlations of others, by device and samples; none where there is no such file.
fn baselines(path: &Path) -> HashMap<(String, usize), (f64, f64)> {
    let mut known = HashMap::new();
    let Ok(mut reader) = csv::Reader::from_path(path) else { return known };
    let header = reader.headers().cloned().unwrap_or_default();
    let column = |name: &str| header.iter().position(|column| column == name);
    let columns = column("device").zip(column("samples")).zip(column("rmspe_percent").zip(column("spearman")));
    let Some(((device, samples), (rmspe, spearman))) = columns else { return known };
    for record in reader.records().flatten() {
        let number = |column: usize| record.get(column)?.parse::<f64>().ok();
        if let (Some(name), Some(samples), Some(figures)) =
            (record.get(device), number(samples), number(rmspe).zip(number(spearman)))
        {
            known.insert((name.to_owned(), samples as usize), figures);
        }
    }
    known
}
