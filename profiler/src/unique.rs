//! Names that nobody else has given.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use fleetfoot_protocol::hex;
use sha2::{Digest, Sha256};

/// Another name each time, as a SHA-256 in hexadecimal.
pub(crate) fn unique_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    hex(&Sha256::digest(format!("{now} {} {count}", std::process::id())))
}
