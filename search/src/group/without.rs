//! In a build without c10d there is nobody to talk to.

use std::convert::Infallible;
use std::time::Duration;

use tch::Tensor;

use super::launch::Launch;

/// There is none.
#[derive(Debug)]
pub struct Link(Infallible);

/// There is none.
#[derive(Debug)]
pub struct Work(Infallible);

impl Link {
    pub fn join(_: &Launch, _: bool, _: Duration) -> Result<(Self, bool), String> {
        Err("this build of fleetfoot-search can't: build it with --features distributed".to_owned())
    }

    pub fn sum(&self, _: &Tensor) -> Result<Work, String> {
        match self.0 {}
    }

    pub fn broadcast(&self, _: &Tensor) -> Result<(), String> {
        match self.0 {}
    }
}

impl Work {
    pub fn finish(self) -> Result<(), String> {
        match self.0 {}
    }
}
