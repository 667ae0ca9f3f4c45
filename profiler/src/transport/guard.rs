//! A connection that stays open for as long as a device is used: it holds the device against others, and what was changed there, and puts it
//! back as it ends, however that happens.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::process::{Talk, apart, wait};

/// How long putting things back may take.
const ENDING: Duration = Duration::from_secs(10);
/// The most of a line that is read.
const LONGEST: u64 = 4096;

/// What a guard's process is known by on the device.
pub(super) const NAME: &str = "fleetfoot-guard";

/// A guard's script. `folder` is a word of it, `token` the host's own, `settings` say what `restore` and `change` do.
///
/// It makes the folder `holder`, in which it says who it is: whoever finds one there waits for 20 seconds, ends a guard of its own host's,
/// whose connection is gone, and takes the place of one that is dead. Then it says `fleetfoot-held`, changes the settings, says
/// `fleetfoot-ready`, and puts everything back when its input ends. Who is refused is told by `fleetfoot-busy`, or `fleetfoot-refused`.
pub(super) fn script(folder: &str, token: &str, settings: &str) -> String {
    format!(
        r#"name={NAME}; f={folder}; h="$f/holder"; umask 077; mkdir -p "$f" 2>/dev/null; n=0
{settings}while ! mkdir "$h" 2>/dev/null; do
[ -d "$h" ] || {{ echo "fleetfoot-refused $(mkdir "$h" 2>&1 | tr '
' ' ')"; exit 1; }}
o=; k=; {{ read -r o k < "$h/who"; }} 2>/dev/null
if [ -n "$o" ] && grep -q "$name" "/proc/$o/cmdline" 2>/dev/null; then
[ "$k" != {token} ] || kill -HUP "$o" 2>/dev/null
[ $n -lt 100 ] || {{ echo "fleetfoot-busy $o"; exit 1; }}
elif [ -n "$o" ] || [ $n -gt 20 ]; then
rm -rf "$h"
fi
n=$((n+1)); sleep 0.2 2>/dev/null || sleep 1
done
echo "$$ {token}" > "$h/who"
trap 'trap "" HUP INT TERM PIPE; restore; rm -rf "$h"; exit 0' HUP INT TERM
echo fleetfoot-held
told=; change
echo "fleetfoot-ready $told"
cat > /dev/null
trap '' HUP INT TERM PIPE
restore
rm -rf "$h""#
    )
}

/// Settings of a device that has none.
pub(super) const NO_SETTINGS: &str = "restore() { :; }\nchange() { :; }\n";

/// A script that runs on a device until its input ends.
pub(crate) struct Guard {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    talk: Talk,
}

/// A guard that didn't come as far as it should.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The program isn't there.
    Start(std::io::Error),
    /// Another host's guard is there: its process.
    Busy(String),
    /// It ended, and what it said before that.
    Ended(String),
    /// It hasn't said the word in time.
    TooLong(Duration),
}

impl Guard {
    /// Starts a script through a client, which may want it as the beginning of its input.
    pub(super) fn start(mut client: Command, script: &str) -> Result<Self, Refused> {
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        apart(&mut client);
        let mut child = client.spawn().map_err(Refused::Start)?;
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                let mut stdout = BufReader::new(stdout);
                let mut line = String::new();
                while let Ok(1..) = (&mut stdout).take(LONGEST).read_line(&mut line) {
                    if sender.send(line.trim_end().to_owned()).is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        }
        let (mut input, talk) = (child.stdin.take(), Talk::of(child.stderr.take()));
        // A client that takes nothing says why by its end.
        let _ = input.as_mut().map(|input| input.write_all(script.as_bytes()).and_then(|()| input.flush()));
        Ok(Self { child, input, lines, talk })
    }

    /// Waits for the line that begins with this word: what is behind it. Lines that refuse are errors.
    pub(super) fn word(&mut self, word: &str, most: Duration) -> Result<String, Refused> {
        let deadline = Instant::now() + most;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(word) {
                        return Ok(rest.trim().to_owned());
                    }
                    if let Some(process) = line.strip_prefix("fleetfoot-busy ") {
                        return Err(Refused::Busy(process.trim().to_owned()));
                    }
                    if let Some(why) = line.strip_prefix("fleetfoot-refused ") {
                        return Err(Refused::Ended(why.trim().to_owned()));
                    }
                }
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => return Err(Refused::TooLong(most)),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                    wait(&mut self.child, Duration::from_secs(1));
                    thread::sleep(Duration::from_millis(20));
                    return Err(Refused::Ended(self.talk.lines().join("\n")));
                }
            }
        }
    }

    /// Whether it is still there.
    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.input.take());
        if wait(&mut self.child, ENDING).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::device::Hygiene;
    use crate::transport::{android, shell};

    /// A phone's programs that keep one setting in a file, and take a while.
    fn programs(folder: &Path) {
        let state = folder.join("state");
        fs::create_dir_all(&state).unwrap();
        let state = state.display();
        let settings = format!(
            "sleep 0.3; case $1 in get) cat {state}/stay 2>/dev/null || echo null;; put) echo $4 > {state}/stay;; delete) rm -f {state}/stay;; esac"
        );
        let svc = format!("sleep 0.3; echo 7 > {state}/stay");
        let cmd = format!("sleep 0.3; echo $3 > {state}/fixed");
        for (name, text) in [("settings", settings), ("svc", svc), ("cmd", cmd)] {
            fs::write(folder.join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
            Command::new("chmod").arg("755").arg(folder.join(name)).status().unwrap();
        }
    }

    fn started(folder: &Path, token: &str, hygiene: &Hygiene) -> Guard {
        let mut shell = Command::new("sh");
        let path = std::env::var("PATH").unwrap_or_default();
        shell.env("PATH", format!("{}:{path}", folder.display()));
        let word = shell::word(&folder.join("own").display().to_string());
        shell.args(["-c", &script(&word, token, &android::settings(hygiene))]);
        Guard::start(shell, "").unwrap()
    }

    const MOST: Duration = Duration::from_secs(30);

    fn state(folder: &Path, name: &str) -> Option<String> {
        fs::read_to_string(folder.join("state").join(name)).ok().map(|text| text.trim().to_owned())
    }

    #[test]
    fn settings_are_held_and_put_back_whatever_cuts_in() {
        let folder = tempfile::tempdir().unwrap();
        let (path, hygiene) = (folder.path(), Hygiene::default());
        programs(path);
        fs::write(path.join("state/stay"), "3\n").unwrap();
        let mut guard = started(path, "a", &hygiene);
        assert_eq!(guard.word("fleetfoot-ready", MOST).unwrap(), "stay_awake=on fixed_performance=on");
        assert_eq!((state(path, "stay").as_deref(), state(path, "fixed").as_deref()), (Some("7"), Some("true")));
        // A connection that is cut, and another one at once, again and again, at any moment.
        for pause in [0, 50, 400, 900, 1_500] {
            let before = std::mem::replace(&mut guard, started(path, "a", &hygiene));
            Command::new("kill").args(["-HUP", &before.child.id().to_string()]).status().unwrap();
            thread::spawn(move || drop(before));
            thread::sleep(Duration::from_millis(pause));
        }
        assert_eq!(guard.word("fleetfoot-ready", MOST).unwrap(), "stay_awake=on fixed_performance=on");
        assert_eq!((state(path, "stay").as_deref(), state(path, "fixed").as_deref()), (Some("7"), Some("true")));
        drop(guard);
        assert_eq!((state(path, "stay").as_deref(), state(path, "fixed").as_deref()), (Some("3"), Some("false")));
        assert!(!path.join("own/restore").exists() && !path.join("own/holder").exists());
    }

    #[test]
    fn what_a_dead_guard_left_is_put_back_by_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        programs(path);
        fs::write(path.join("state/stay"), "2\n").unwrap();
        let mut guard = started(path, "a", &Hygiene::default());
        guard.word("fleetfoot-ready", MOST).unwrap();
        guard.child.kill().unwrap();
        guard.child.wait().unwrap();
        assert_eq!(state(path, "stay").as_deref(), Some("7"), "nobody put it back");
        // Which changes nothing itself.
        let off = Hygiene { stay_awake: false, fixed_performance: false, ..Hygiene::default() };
        let mut next = started(path, "b", &off);
        next.word("fleetfoot-ready", MOST).unwrap();
        drop(next);
        assert_eq!((state(path, "stay").as_deref(), state(path, "fixed").as_deref()), (Some("2"), Some("false")));
    }

    #[test]
    fn a_setting_that_isnt_known_isnt_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        programs(path);
        fs::write(path.join("settings"), "#!/bin/sh\nexit 1\n").unwrap();
        let mut guard = started(path, "a", &Hygiene::default());
        assert_eq!(guard.word("fleetfoot-ready", MOST).unwrap(), "stay_awake=off fixed_performance=off");
        drop(guard);
        assert_eq!((state(path, "stay"), state(path, "fixed")), (None, None));
    }

    #[test]
    fn another_host_is_waited_for_and_then_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        programs(path);
        let mut first = started(path, "a", &Hygiene::default());
        first.word("fleetfoot-held", MOST).unwrap();
        let mut second = started(path, "b", &Hygiene::default());
        let refused = second.word("fleetfoot-held", Duration::from_secs(60));
        assert!(
            matches!(&refused, Err(Refused::Busy(process)) if *process == first.child.id().to_string()),
            "{refused:?}"
        );
        drop(first);
        let mut third = started(path, "b", &Hygiene::default());
        third.word("fleetfoot-held", MOST).unwrap();
    }
}
