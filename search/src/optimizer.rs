//! Stochastic gradient descent whose state can be saved, which libtorch's own can't.

use tch::{TchError, Tensor, no_grad};

use crate::module::{Module, Parameter};
use crate::native::sgd;

/// SGD with Nesterov momentum and weight decay:
/// `g <- g + decay w; v <- momentum v + g; w <- w - lr (g + momentum v)`.
///
/// ProxylessNAS's authors decay everything while they search (`no_decay_keys` of their `imagenet_arch_search.py`), and all
/// but BN's weights and biases when they train the result from scratch (`imagenet_run_exp.py`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Momentum.
    pub momentum: f64,
    /// Weight decay.
    pub decay: f64,
    /// Whether BN's weights and biases decay, too.
    pub decay_bn: bool,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { momentum: 0.9, decay: 4e-5, decay_bn: true }
    }
}

impl Sgd {
    /// Updates a module's trainable parameters by their gradients, in their order.
    pub fn update(&self, module: &mut Module, gradients: &[Tensor], lr: f64) -> Result<(), TchError> {
        let trainable = module.parameters_mut().iter_mut().filter(|parameter| parameter.trainable);
        self.step(&mut trainable.collect::<Vec<&mut Parameter>>(), gradients, lr)
    }

    /// Updates parameters by their gradients, in the same order. Parameters that aren't named stay as they are, their
    /// momentum too.
    pub fn step(&self, parameters: &mut [&mut Parameter], gradients: &[Tensor], lr: f64) -> Result<(), TchError> {
        no_grad(|| {
            for (parameter, gradient) in parameters.iter_mut().zip(gradients) {
                if parameter.momentum.is_none() {
                    // From 0 the first gradient starts the momentum, as in PyTorch.
                    let still = parameter.value.f_zeros_like()?.f_set_requires_grad(false)?;
                    parameter.momentum = Some(still);
                }
                let Some(velocity) = &parameter.momentum else { continue };
                sgd(&parameter.value, velocity, gradient, lr, self.momentum, self.decay_of(parameter))?;
            }
            Ok(())
        })
    }

    fn decay_of(&self, parameter: &Parameter) -> f64 {
        let is_bn = parameter.name.rsplit('.').nth(1) == Some("bn");
        if is_bn && !self.decay_bn { 0.0 } else { self.decay }
    }
}

/// Cosine from `peak` to 0 over `total` steps, behind a linear rise over the first `rise` steps.
pub fn cosine(step: usize, total: usize, rise: usize, peak: f64) -> f64 {
    if step < rise {
        return peak * (step + 1) as f64 / rise as f64;
    }
    let position = (step - rise) as f64 / (total - rise).max(1) as f64;
    0.5 * peak * (1.0 + (std::f64::consts::PI * position).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(name: &str) -> Parameter {
        let value = Tensor::from_slice(&[1.0f64]).set_requires_grad(true);
        Parameter { name: name.into(), value, trainable: true, momentum: None }
    }

    #[test]
    fn weights_of_batch_normalisation_decay_where_that_is_wanted() {
        let left = |name: &str, decay_bn: bool| {
            let mut parameter = parameter(name);
            let sgd = Sgd { momentum: 0.0, decay: 0.1, decay_bn };
            sgd.step(&mut [&mut parameter], &[Tensor::from_slice(&[0.0f64])], 1.0).unwrap();
            parameter.value.double_value(&[0])
        };
        assert_eq!(left("stem.main.bn.weight", false), 1.0);
        for (name, decay_bn) in
            [("stem.main.bn.weight", true), ("stem.main.conv.weight", false), ("head.classifier.bias", false)]
        {
            assert!((left(name, decay_bn) - 0.9).abs() < 1e-12, "{name}");
        }
    }

    #[test]
    fn nesterov_momentum_follows_its_equations() {
        let mut parameter = parameter("w");
        let sgd = Sgd { momentum: 0.9, decay: 0.1, decay_bn: false };
        let (mut w, mut v) = (1.0f64, 0.0f64);
        for step in 0..5 {
            let g = 0.5 - 0.2 * f64::from(step);
            sgd.step(&mut [&mut parameter], &[Tensor::from_slice(&[g])], 0.05).unwrap();
            let g = g + 0.1 * w;
            v = 0.9 * v + g;
            w -= 0.05 * (g + 0.9 * v);
            assert!((parameter.value.double_value(&[0]) - w).abs() < 1e-12);
        }
    }

    #[test]
    fn the_cosine_rises_then_falls_to_nothing() {
        assert!((cosine(0, 100, 10, 1.0) - 0.1).abs() < 1e-12);
        assert_eq!(cosine(10, 100, 10, 1.0), 1.0);
        assert!(cosine(99, 100, 10, 1.0) < 1e-3);
        assert_eq!(cosine(0, 100, 0, 0.05), 0.05);
    }
}
