//! What `fleetfoot` and `fleetfoot-search` have in common on the command line, so that both talk alike: exit statuses
//! and errors on one line, progress, Ctrl-C, options that are checked when they are read, parts of a list, files that aren't
//! overwritten.

mod exit;
mod files;
mod openmp;
mod options;
mod progress;
mod shard;
mod stop;
mod talk;

pub use exit::{TRY_AGAIN, finish, finish_passing, one_line, usage};
pub use files::{claim, claim_equal};
pub use openmp::{OPENMP_SPIN, restart_for_openmp};
pub use options::{count, fraction, not_negative, positive, share};
pub use progress::Progress;
pub use shard::{Shard, ShardParseError};
pub use stop::{is_terminated, stop_flag};
pub use talk::{listed, say, speak_as};
