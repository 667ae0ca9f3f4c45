//! Ctrl-C.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Set by a request to terminate.
static TERMINATED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Whether this program was asked to terminate (SIGTERM), as schedulers do that want its machine for somebody else.
pub fn is_terminated() -> bool {
    TERMINATED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// Set by Ctrl-C and by a request to terminate; a second one ends the program at once. The same one for whoever asks.
pub fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    if let Some(flag) = FLAG.get() {
        return Ok(Arc::clone(flag));
    }
    let flag = FLAG.get_or_init(Arc::default);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(flag))?;
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(TERMINATED.get_or_init(Arc::default)))?;
    Ok(Arc::clone(flag))
}
