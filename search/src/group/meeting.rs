//! How ranks agree on what they have in common at a store that may outlive them.
//!
//! torchrun's agents keep the store over restarts, with all that earlier processes left there, and don't count restarts alike on
//! all machines. So each process leaves a number of its own, which nobody else has; rank 0 answers each with the session's; and
//! everybody confirms. What a process that is gone has left is answered, but never confirmed.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{Duration, Instant};

use super::launch::Launch;

/// Where words are left under keys.
pub trait Board {
    /// Leaves a word, in the place of an earlier one.
    fn set(&self, key: &str, value: &str) -> Result<(), String>;

    /// What was left, if anything.
    fn get(&self, key: &str) -> Result<Option<String>, String>;
}

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A name that nobody else has, of this session of all ranks; and whether there was one before at this store.
pub fn meet(board: &impl Board, launch: &Launch, timeout: Duration) -> Result<(String, bool), String> {
    let (own, start) = (unique(), Instant::now());
    let key = |what: &str| format!("{}/{what}", launch.rendezvous.prefix);
    if launch.rank == 0 {
        lead(board, launch.size, &key, &own, (start, timeout))
    } else {
        follow(board, launch.rank, &key, &own, (start, timeout))
    }
}

type Key<'a> = &'a dyn Fn(&str) -> String;

fn lead(
    board: &impl Board,
    size: usize,
    key: Key<'_>,
    session: &str,
    (start, timeout): (Instant, Duration),
) -> Result<(String, bool), String> {
    let before = key("before");
    let again = board.get(&before)?.is_some();
    board.set(&before, "yes")?;
    let mut answered = vec![String::new(); size];
    loop {
        let mut missing = None;
        for (rank, answered) in answered.iter_mut().enumerate().skip(1) {
            let came = board.get(&key(&format!("came/{rank}")))?.unwrap_or_default();
            if came != *answered {
                board.set(&key(&format!("session/{came}")), &format!("{session} {again}"))?;
                answered.clone_from(&came);
            }
            let confirmed = board.get(&key(&format!("confirmed/{session}/{rank}")))?;
            if came.is_empty() || confirmed.as_ref() != Some(&came) {
                missing.get_or_insert(rank);
            }
        }
        let Some(rank) = missing else {
            board.set(&key(&format!("complete/{session}")), "yes")?;
            return Ok((key(session), again));
        };
        wait(start, timeout, || format!("rank {rank} didn't come within {} s", timeout.as_secs()))?;
    }
}

fn follow(
    board: &impl Board,
    rank: usize,
    key: Key<'_>,
    own: &str,
    (start, timeout): (Instant, Duration),
) -> Result<(String, bool), String> {
    board.set(&key(&format!("came/{rank}")), own)?;
    let wanted = |what: &str| loop {
        if let Some(word) = board.get(&key(what))? {
            return Ok::<String, String>(word);
        }
        wait(start, timeout, || format!("rank 0 didn't answer within {} s", timeout.as_secs()))?;
    };
    let answer = wanted(&format!("session/{own}"))?;
    let (session, again) = answer.split_once(' ').ok_or_else(|| format!("rank 0 answered '{answer}'"))?;
    board.set(&key(&format!("confirmed/{session}/{rank}")), own)?;
    wanted(&format!("complete/{session}"))?;
    Ok((key(session), again == "true"))
}

/// A name by the system's random numbers, which std's maps draw from.
fn unique() -> String {
    let number = || RandomState::new().build_hasher().finish();
    format!("{}-{:016x}{:016x}", std::process::id(), number(), number())
}

fn wait(start: Instant, timeout: Duration, late: impl FnOnce() -> String) -> Result<(), String> {
    if start.elapsed() >= timeout {
        return Err(late());
    }
    std::thread::sleep(LOOK_EVERY);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;
    use std::thread;

    use super::super::launch::Rendezvous;
    use super::*;

    #[derive(Default)]
    struct Words(Mutex<HashMap<String, String>>);

    impl Board for Words {
        fn set(&self, key: &str, value: &str) -> Result<(), String> {
            self.0.lock().unwrap().insert(key.to_owned(), value.to_owned());
            Ok(())
        }

        fn get(&self, key: &str) -> Result<Option<String>, String> {
            Ok(self.0.lock().unwrap().get(key).cloned())
        }
    }

    fn come(board: &Words, rank: usize, size: usize, timeout: Duration) -> Result<(String, bool), String> {
        let rendezvous = Rendezvous { host: "x".into(), port: 1, hosted: false, prefix: "fleetfoot".into() };
        meet(board, &Launch { rank, size, local_rank: 0, rendezvous, restarts: 0 }, timeout)
    }

    fn all(board: &Words, size: usize) -> Vec<(String, bool)> {
        thread::scope(|scope| {
            let ranks: Vec<_> = (0..size)
                .rev()
                .map(|rank| scope.spawn(move || come(board, rank, size, Duration::from_secs(10))))
                .collect();
            ranks.into_iter().map(|rank| rank.join().unwrap().unwrap()).collect()
        })
    }

    #[test]
    fn every_session_at_a_store_has_a_name_of_its_own_and_knows_whether_it_is_the_first() {
        let board = Words::default();
        let [first, second] = [all(&board, 3), all(&board, 3)];
        assert!(first.iter().all(|word| *word == first[0]) && !first[0].1);
        assert!(second.iter().all(|word| *word == second[0]) && second[0].1);
        assert_ne!(first[0].0, second[0].0);
    }

    #[test]
    fn what_a_process_that_is_gone_has_left_leads_nobody_astray() {
        let board = Words::default();
        // Rank 1 came and went; rank 0 came, answered it, and went, too.
        board.set("fleetfoot/came/1", "old").unwrap();
        assert!(come(&board, 0, 2, Duration::from_millis(100)).unwrap_err().contains("rank 1 didn't come"));
        let old = board.get("fleetfoot/session/old").unwrap().unwrap();
        let found = all(&board, 2);
        assert_eq!(found[0], found[1]);
        assert!(!old.starts_with(found[0].0.trim_start_matches("fleetfoot/")) && found[0].1);
    }

    #[test]
    fn nobody_waits_longer_than_was_said() {
        let late = come(&Words::default(), 1, 2, Duration::from_millis(100)).unwrap_err();
        assert!(late.contains("rank 0 didn't answer"), "{late}");
    }
}
