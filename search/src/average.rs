//! The average of a training's weights.

use tch::no_grad;

use crate::chain::Chain;
use crate::checkpoint::Checkpoint;
use crate::error::SearchError;

/// Exponential moving average of a network's weights: behind step t (from 0), `a <- d a + (1 - d) w` with
/// `d = min(decay, (1 + t) / (10 + t))`, so that what a short training started from is soon forgotten. BN's running mean
/// and variance are averaged alike, as TensorFlow's `ExponentialMovingAverage` is applied in its recipe for MobileNets
/// (tensorflow/models, research/slim): normalisation then is by statistics of the same steps as the weights are.
#[derive(Debug)]
pub struct Average {
    chain: Chain,
    decay: f64,
}

impl Average {
    /// Starts from a network's weights.
    pub fn of(chain: &Chain, decay: f64) -> Result<Self, SearchError> {
        Ok(Self { chain: chain.with(&chain.weights()?)?, decay })
    }

    /// The network in its average weights.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Takes in the network's weights behind a step, the first being 0.
    pub fn update(&mut self, chain: &Chain, step: usize) -> Result<(), SearchError> {
        let share = 1.0 - decay_at(self.decay, step);
        no_grad(|| {
            for (average, parameter) in self.chain.parameters_mut().zip(chain.parameters()) {
                let _ = average.value.f_lerp_(&parameter.value, share)?;
            }
            Ok(())
        })
    }

    /// Puts it into a checkpoint.
    pub fn save(&self, checkpoint: &mut Checkpoint) -> Result<(), SearchError> {
        self.chain.save(PREFIX, checkpoint)
    }

    /// Takes it out again.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), SearchError> {
        self.chain.restore(PREFIX, checkpoint)
    }
}

/// Of its tensors in a checkpoint.
const PREFIX: &str = "average";

fn decay_at(decay: f64, step: usize) -> f64 {
    decay.min((1.0 + step as f64) / (10.0 + step as f64))
}

#[cfg(test)]
mod tests {
    use fleetfoot_space::{Network, OperatorKey, Precision, Shape};

    use super::*;
    use crate::layout::Layout;

    #[test]
    fn the_average_follows_its_equation_and_forgets_its_start() {
        let operator = "mbconv-k3-e2-s1-i4-o4-g1-skip".parse().unwrap();
        let key = OperatorKey { operator, input: Shape::new(1, 4, 5, 5), precision: Precision::Fp32 };
        let network = Network::of_unit(&key, 1e-3).unwrap();
        let mut chain = Chain::initial(network, 1, Layout::ChannelsLast).unwrap();
        let mut average = Average::of(&chain, 0.5).unwrap();
        let first = |chain: &Chain, name: &str| {
            let parameter = chain.parameters().find(|parameter| parameter.name == name).unwrap();
            parameter.value.detach().reshape([-1]).double_value(&[0])
        };
        for name in ["unit.expand.conv.weight", "unit.depthwise.bn.running_var"] {
            let mut expected = first(&average.chain, name);
            for step in 0..12 {
                no_grad(|| chain.parameters_mut().for_each(|p| drop(p.value.f_add_scalar_(0.25).unwrap())));
                average.update(&chain, step).unwrap();
                let decay = (1.0 + step as f64) / (10.0 + step as f64);
                let decay = if decay < 0.5 { decay } else { 0.5 };
                expected = decay * expected + (1.0 - decay) * first(&chain, name);
            }
            assert!((first(&average.chain, name) - expected).abs() < 1e-5, "{name}");
            average = Average::of(&chain, 0.5).unwrap();
        }
    }
}
