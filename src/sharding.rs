//! One result from several parts, which several devices measured, or one after the other: what is dealt out to whom, what each part
//! holds, whether parts belong together, and what they are together.

mod alike;
mod complete;
mod deal;
mod file;
mod heads;
mod part;
mod setup;
mod turn;

pub use complete::{check_dealt, complete};
pub use deal::{REFERENCES, deal, deal_for};
pub use file::{Content, PartFile, is_there, part_path, parts_of};
pub use part::{Part, REFERENCES_APART, REMEDY, Whole};
pub use setup::{MODELS, setup};
pub use turn::take_turn;
