//! Standard error, shared by all workers of a program: bars in place, lines above them, each under its speaker's name.

use std::cell::RefCell;
use std::fmt::Display;
use std::sync::OnceLock;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};

thread_local! {
    static SPEAKER: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The bars that are drawn one below the other.
fn bars() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()))
}

/// Draws a bar below the others.
pub(crate) fn draw(bar: ProgressBar) -> ProgressBar {
    bars().add(bar)
}

/// From now on this thread speaks under a name: one of several workers does.
pub fn speak_as(name: &str) {
    SPEAKER.with_borrow_mut(|speaker| *speaker = format!("{name}: "));
}

/// The name under which this thread speaks, with what separates it from what it says; empty unless there are several.
pub(crate) fn speaker() -> String {
    SPEAKER.with_borrow(Clone::clone)
}

/// Says a line on standard error, above the bars.
pub fn say(line: impl Display) {
    let speaker = speaker();
    bars().suspend(|| eprintln!("{speaker}{line}"));
}

/// The first of many, so many at most, and how many others there are.
pub fn listed(all: &[impl AsRef<str>], most: usize) -> String {
    let (shown, others) = all.split_at(all.len().min(most));
    let shown: Vec<&str> = shown.iter().map(AsRef::as_ref).collect();
    let first = shown.join(", ");
    if others.is_empty() { first } else { format!("{first} and {} others", others.len()) }
}

#[cfg(test)]
mod tests {
    use super::listed;

    #[test]
    fn of_many_the_first_are_listed() {
        assert_eq!(listed(&["a", "b"], 2), "a, b");
        assert_eq!(listed(&["a", "b", "c", "d"], 2), "a, b and 2 others");
        assert_eq!(listed(&[] as &[&str], 2), "");
    }
}
