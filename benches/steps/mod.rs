//! What programs that time steps have in common: geometries, batches, one JSON line a configuration.

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

/// A tenth of a millisecond is as exact as it gets.
pub fn round4(seconds: f64) -> f64 {
    (seconds * 1e4).round() / 1e4
}

/// A line of output.
#[allow(clippy::print_stdout)] // it is data
pub fn say(line: &str) {
    println!("{line}");
}
