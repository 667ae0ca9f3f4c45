//! Gradients on their way to the other ranks: in buckets, each sent as soon as it is full, while the backward pass goes on.

use tch::{Device, Tensor};

use super::Group;
use super::link::Work;
use crate::error::SearchError;
use crate::layout::Layout;
use crate::native::{in_a_row, out_of_row};

/// Bytes of a bucket that is sent.
const BUCKET: usize = 4 << 20;

/// The gradients of one step, module by module.
#[derive(Debug)]
pub struct Exchange<'a> {
    group: &'a Group,
    waiting: Vec<Own>,
    layout: Layout,
    bytes: usize,
    status: Status,
    under_way: Vec<Bucket>,
}

/// Numbers of the step, of which all ranks know the means when gradients begin to travel.
#[derive(Debug)]
enum Status {
    Unsaid,
    /// This rank's, with its mark.
    Said {
        sums: Tensor,
        mark: f64,
        work: Option<Work>,
    },
    Known([f64; 2]),
}

/// A module's gradients, and how they lie in memory.
#[derive(Debug)]
struct Own {
    place: usize,
    gradients: Vec<Tensor>,
}

#[derive(Debug)]
struct Bucket {
    /// Whose these are, and of which extents.
    of: Vec<(usize, Vec<Vec<i64>>)>,
    layout: Layout,
    /// One behind the other.
    row: Tensor,
    work: Work,
}

impl Group {
    /// Nothing is on its way yet.
    pub fn exchange(&self) -> Exchange<'_> {
        Exchange {
            group: self,
            waiting: Vec::new(),
            layout: Layout::default(),
            bytes: 0,
            status: Status::Unsaid,
            under_way: Vec::new(),
        }
    }
}

impl Exchange<'_> {
    /// Says two numbers of this rank's, whose means are wanted, and a mark of what it computes, which must be the same on all
    /// ranks. Others needn't have come so far yet.
    pub fn begin(&mut self, own: [f64; 2], mark: u64) -> Result<(), SearchError> {
        let Some(link) = &self.group.link else {
            self.status = Status::Known(own);
            return Ok(());
        };
        // The sum of its squares over all ranks that there can be is still a whole number among doubles.
        let mark = (mark % (1 << 18)) as f64;
        let sums = Tensor::f_from_slice(&[own[0], own[1], mark, mark * mark])?.f_to(self.group.wire())?;
        let work = Some(self.group.told(link.sum(&sums))?);
        self.status = Status::Said { sums, mark, work };
        Ok(())
    }

    /// The means of what all ranks said.
    pub fn means(&mut self) -> Result<[f64; 2], SearchError> {
        let group = self.group;
        let (rank, size) = (group.rank, group.size);
        match &mut self.status {
            Status::Unsaid => {
                Err(SearchError::Settings("nothing was said of a step whose gradients are sent".to_owned()))
            }
            Status::Known(means) => Ok(*means),
            Status::Said { sums, mark, work } => {
                group.told(work.take().map_or(Ok(()), Work::finish))?;
                let mut all = [0.0; 4];
                sums.f_to(Device::Cpu)?.f_copy_data(&mut all, 4)?;
                let ranks = size as f64;
                // By Cauchy and Schwarz, sum and sum of squares are those of equal numbers only if they are equal.
                if all[2..] != [ranks * *mark, ranks * *mark * *mark] {
                    return Err(SearchError::Apart { rank, size });
                }
                let means = [all[0] / ranks, all[1] / ranks];
                self.status = Status::Known(means);
                Ok(means)
            }
        }
    }

    /// Takes a module's gradients, each rank's in the same order, and sends them when there are enough. They are to be summed
    /// up: whoever gives them has them divided by the number of ranks.
    pub fn take(&mut self, place: usize, layout: Layout, gradients: Vec<Tensor>) -> Result<(), SearchError> {
        if layout != self.layout {
            self.send()?;
            self.layout = layout;
        }
        let bytes = |gradient: &Tensor| gradient.numel() * gradient.kind().elt_size_in_bytes();
        self.bytes += gradients.iter().map(bytes).sum::<usize>();
        self.waiting.push(Own { place, gradients });
        if self.group.size > 1 && self.bytes >= BUCKET { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> Result<(), SearchError> {
        let own = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        let Some(link) = self.group.link.as_ref().filter(|_| !own.is_empty()) else {
            self.waiting = own;
            return Ok(());
        };
        // Of other tensors, others' gradients are none of ours.
        self.means()?;
        let row = in_a_row(own.iter().flat_map(|own| &own.gradients), self.layout)?.f_to(self.group.wire())?;
        let work = self.group.told(link.sum(&row))?;
        let of = own.iter().map(|own| (own.place, own.gradients.iter().map(Tensor::size).collect())).collect();
        self.under_way.push(Bucket { of, layout: self.layout, row, work });
        Ok(())
    }

    /// Sends what is left and waits for all of it, bucket by bucket: `use_it` gets each module's place and gradients, in the order
    /// in which they were taken.
    pub fn finish(
        mut self,
        mut use_it: impl FnMut(usize, Vec<Tensor>) -> Result<(), SearchError>,
    ) -> Result<(), SearchError> {
        self.send()?;
        for Bucket { of, layout, row, work } in std::mem::take(&mut self.under_way) {
            self.group.told(work.finish())?;
            let (places, extents): (Vec<usize>, Vec<Vec<Vec<i64>>>) = of.into_iter().unzip();
            let row = row.f_to(self.group.compute.device())?;
            let mut gradients = out_of_row(&row, &extents.concat(), layout)?.into_iter();
            for (place, extents) in places.into_iter().zip(extents) {
                use_it(place, gradients.by_ref().take(extents.len()).collect())?;
            }
        }
        // One rank alone has sent nothing.
        std::mem::take(&mut self.waiting).into_iter().try_for_each(|own| use_it(own.place, own.gradients))
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    #[test]
    fn what_is_put_in_a_row_comes_out_of_it_as_it_was() {
        let sizes = [vec![4, 3, 5, 5], vec![8, 1, 3, 3], vec![6, 4, 1, 1], vec![7, 2], vec![9]];
        for layout in [Layout::ChannelsLast, Layout::Nchw] {
            for kind in [Kind::Float, Kind::Double] {
                let tensors = sizes.iter().map(|size| Tensor::randn(&size[..], (kind, Device::Cpu)));
                let tensors: Vec<Tensor> = tensors.map(|tensor| layout.arrange(&tensor).unwrap()).collect();
                // In which order they lay before doesn't matter.
                let mixed = tensors.iter().map(|tensor| Layout::Nchw.arrange(tensor).unwrap()).collect::<Vec<_>>();
                for given in [&tensors, &mixed] {
                    let row = in_a_row(given.iter(), layout).unwrap();
                    let again = out_of_row(&row, &sizes, layout).unwrap();
                    assert_eq!(again, tensors, "{layout}");
                    for (again, tensor) in again.iter().zip(&tensors) {
                        assert_eq!(layout.arrange(again).unwrap().data_ptr(), again.data_ptr(), "{:?}", tensor.size());
                    }
                }
                assert!(out_of_row(&Tensor::zeros([5], (kind, Device::Cpu)), &sizes, layout).is_err());
            }
        }
    }
}
