//! What programs that time steps have in common: geometries, batches, memory, one JSON line a configuration.

use std::process::Command;

use fleetfoot_search::{Batch, Layout, SearchError};
use fleetfoot_space::SearchSpace;
use tch::{Device, Kind, Tensor};

/// A geometry: name, space, channels and size of images, classes, images of a step.
pub type Config = (&'static str, &'static str, (i64, i64), usize, i64);

/// Those that are timed.
pub const CONFIGS: [Config; 3] = [
    ("proxyless-32", "proxyless-224", (3, 32), 10, 64),
    ("proxyless-224", "proxyless-224", (3, 224), 1000, 8),
    ("fashion-28", "fashion-28", (1, 28), 10, 64),
];

/// One whose networks have a few channels.
pub const TINY: Config = ("tiny", "fashion-28", (1, 28), 10, 2);

/// The space in the geometry, and a batch of noise.
pub fn space_and_batch(
    &(_, space, (channels, size), classes, images): &Config,
    layout: Layout,
) -> Result<(SearchSpace, Batch), SearchError> {
    let text = SearchSpace::load(space)?.text().to_owned();
    // The geometry alone is changed.
    let own = text.lines().filter(|line| !line.starts_with("classes =") && !line.starts_with("input ="));
    let own: Vec<&str> = own.collect();
    let head = format!("classes = {classes}\ninput = {{ channels = {channels}, height = {size}, width = {size} }}\n");
    let space = SearchSpace::from_toml(&format!("{head}{}", own.join("\n")), space)?;
    let values = Tensor::f_randn([images, channels, size, size], (Kind::Float, Device::Cpu))?;
    let labels = Tensor::f_randint(classes as i64, [images], (Kind::Int64, Device::Cpu))?;
    Ok((space, Batch { images: layout.arrange(&values)?, labels }))
}

/// The layout of this name.
pub fn layout(text: Option<&str>) -> Result<Layout, String> {
    let known = [Layout::ChannelsLast, Layout::Nchw].into_iter();
    let wanted = text.unwrap_or("channels-last");
    known.into_iter().find(|layout| layout.to_string() == wanted).ok_or_else(|| format!("no layout '{wanted}'"))
}

/// The number that this program prints with these arguments, in a process of its own.
pub fn asked(arguments: &[&str]) -> Result<f64, Box<dyn std::error::Error>> {
    let output = Command::new(std::env::current_exe()?).args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.trim().parse().map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?)
}

/// MiB that are resident now.
pub fn resident_mib() -> Result<f64, Box<dyn std::error::Error>> {
    status("VmRSS:")
}

/// MiB that were resident at the peak so far.
pub fn peak_mib() -> Result<f64, Box<dyn std::error::Error>> {
    status("VmHWM:")
}

/// An entry of /proc/self/status in MiB.
fn status(name: &str) -> Result<f64, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such entry")?;
    Ok(value.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

/// A tenth of a millisecond is as exact as it gets.
pub fn round4(seconds: f64) -> f64 {
    (seconds * 1e4).round() / 1e4
}

/// A line of output.
#[allow(clippy::print_stdout)] // it is data
pub fn say(line: &str) {
    println!("{line}");
}
