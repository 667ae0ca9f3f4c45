//! A connection that stays open for as long as a device is used: it holds the device against others, and what was changed there, and puts it
//! back as it ends, however that happens.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::process::{Talk, apart, wait};
use super::{LISTEN_EVERY, Watch};
use crate::unready::printable;

/// How long putting things back may take.
const ENDING: Duration = Duration::from_secs(10);
/// The most of a line that is read.
const LONGEST: u64 = 4096;

/// Time between two signs of life of its host, and how often in vain a guard looks for one, so many seconds apart: a quarter of an hour.
const BEAT: Duration = Duration::from_secs(60);
const LOOK_EVERY: u32 = 30;
const SILENT_LOOKS: u32 = 30;
/// Lines of a guard that nobody has asked for yet: no more are read ahead.
const LINES: usize = 16;

/// What a guard's process is known by on the device.
pub(super) const NAME: &str = "fleetfoot-guard";

/// A guard's script. `folder` is a word of it, `token` the host's own, `settings` say what `restore` and `change` do.
///
/// It makes the folder `holder`, in which it says who it is (one that can be neither made nor found may just have gone: it is tried five
/// times); whoever finds one there waits for 20 seconds, ends a guard of its own host's,
/// whose connection is gone, and takes the place of one that is dead. Then it says `fleetfoot-held`, changes the settings, says
/// `fleetfoot-ready`, and puts everything back when its input ends, when it is told to, or when nothing has come for a quarter of an hour:
/// a connection may be lost without a word. Who has to wait is told by `fleetfoot-waiting`, who is refused by `fleetfoot-busy` or
/// `fleetfoot-refused`.
///
/// All of it is a function: a shell that reads its script from the same input must have read it to its end before that is read on. What waits
/// is `wait`, since a shell hears signals behind a program in the foreground only when that has ended.
pub(super) fn script(folder: &str, token: &str, settings: &str) -> String {
    script_that_looks(SILENT_LOOKS, LOOK_EVERY, (folder, token, settings))
}

fn script_that_looks(times: u32, every_s: u32, (folder, token, settings): (&str, &str, &str)) -> String {
    format!(
        r#"name={NAME}; f={folder}; h="$f/holder"; umask 077; mkdir -p "$f" 2>/dev/null
{settings}hold() {{
n=0; m=0
while :; do
if why=$(mkdir "$h" 2>&1); then
echo "$$ {token}" > "$h/who" && break
rm -rf "$h"
fi
if [ -d "$h" ]; then m=0; else m=$((m+1)); fi
[ $m -lt 5 ] || {{ echo "fleetfoot-refused $(echo "$why" | tr '
' ' ')"; exit 1; }}
o=; k=; {{ read -r o k < "$h/who"; }} 2>/dev/null
if [ -n "$o" ] && grep -q "$name" "/proc/$o/cmdline" 2>/dev/null; then
[ $n != 0 ] || echo "fleetfoot-waiting $o"
[ "$k" != {token} ] || kill "$o" 2>/dev/null
[ $n -lt 100 ] || {{ echo "fleetfoot-busy $o"; exit 1; }}
elif [ -n "$o" ] || [ $n -gt 20 ]; then
mv "$h" "$h.$$" 2>/dev/null && {{
c=; {{ read -r c x < "$h.$$/who"; }} 2>/dev/null
[ "$c" = "$o" ] || mv "$h.$$" "$h" 2>/dev/null
rm -rf "$h.$$"; }}
fi
n=$((n+1)); sleep 0.2 2>/dev/null || sleep 1
done
}}
listen() {{
while read -r x; do echo > "$h/heard"; done
kill $$ 2>/dev/null
}}
watch() {{
m=0
while [ $m -lt {times} ] && kill -0 $$ 2>/dev/null; do
sleep {every_s} & p=$!
trap 'kill $p 2>/dev/null; exit 0' TERM
wait $p
m=$((m+1)); if [ -e "$h/heard" ]; then rm -f "$h/heard"; m=0; fi
done
kill $$ 2>/dev/null
}}
leave() {{
trap '' HUP INT TERM PIPE
kill $listener $watcher 2>/dev/null
restore
rm -rf "$h"
exit 0
}}
main() {{
exec 3<&0
hold
listener=; watcher=
trap leave HUP INT TERM
echo fleetfoot-held
listen <&3 3<&- > /dev/null 2>&1 & listener=$!
watch < /dev/null 3<&- > /dev/null 2>&1 & watcher=$!
told=; change
echo "fleetfoot-ready $told"
wait $listener
leave
}}
main"#
    )
}

/// Settings of a device that has none.
pub(super) const NO_SETTINGS: &str = "restore() { :; }\nchange() { :; }\n";

/// A script that runs on a device until its input ends.
pub(crate) struct Guard {
    child: Child,
    /// Its input ends when this is dropped.
    beats: Option<Sender<()>>,
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
        let (sender, lines) = sync_channel(LINES);
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
        let talk = Talk::of(child.stderr.take());
        let (beats, ended) = channel();
        if let Some(input) = child.stdin.take() {
            let script = script.as_bytes().to_vec();
            thread::spawn(move || live(input, &script, &ended));
        }
        Ok(Self { child, beats: Some(beats), lines, talk })
    }

    /// Waits for the line that begins with this word: what is behind it. Lines that refuse are errors.
    pub(super) fn word(&mut self, word: &str, most: Duration, watch: &dyn Watch) -> Result<String, Refused> {
        let deadline = Instant::now() + most;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left.min(LISTEN_EVERY)) {
                Ok(line) => {
                    if let Some(process) = line.strip_prefix("fleetfoot-waiting ") {
                        let process = printable(process);
                        watch
                            .tell(&format!("another run has the device (its process {process} there): waiting for it"));
                    }
                    if let Some(rest) = line.strip_prefix(word) {
                        return Ok(rest.trim().to_owned());
                    }
                    if let Some(process) = line.strip_prefix("fleetfoot-busy ") {
                        return Err(Refused::Busy(process.trim().to_owned()));
                    }
                    if let Some(why) = line.strip_prefix("fleetfoot-refused") {
                        return Err(Refused::Ended(why.trim().to_owned()));
                    }
                }
                Err(RecvTimeoutError::Timeout) if watch.is_stopped() => {
                    return Err(Refused::Ended("interrupted".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Err(Refused::TooLong(most)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
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

/// Writes the script, then a sign of life every now and then, until the guard is dropped.
fn live(mut input: ChildStdin, script: &[u8], ended: &Receiver<()>) {
    // A client that takes nothing says why by its end.
    let mut said = input.write_all(script).and_then(|()| input.flush());
    while said.is_ok() && matches!(ended.recv_timeout(BEAT), Err(RecvTimeoutError::Timeout)) {
        said = input.write_all(b"\n").and_then(|()| input.flush());
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.beats.take());
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
    use crate::transport::{Silent, android, shell};

    /// A phone's programs that keep one setting in a file, and take a while.
    fn programs(folder: &Path) {
        let state = folder.join("state");
        fs::create_dir_all(&state).unwrap();
        let state = state.display();
        let settings = format!(
            "sleep 0.3; case $1 in get) cat {state}/stay 2>/dev/null || echo null;; put) echo $4 > {state}/stay;; delete) rm -f {state}/stay;; esac"
        );
        let svc = format!("sleep 0.3; echo 7 > {state}/stay");
        let cmd = format!("sleep 0.3; [ ! -e {state}/dead ] || exit 20; echo $3 > {state}/fixed");
        let getprop = "[ $1 = ro.build.version.sdk ] && echo 34".to_owned();
        let dumpsys = format!(
            "case $1 in battery) cat {state}/battery;; power) echo \"  mWakefulness=$(cat {state}/screen)\"; echo '  mWakefulnessChanging=false';; esac"
        );
        let input = format!("case $2 in 223) echo Asleep > {state}/screen;; 224) echo Awake > {state}/screen;; esac");
        fs::write(folder.join("state/battery"), "  AC powered: false\n  USB powered: true\n").unwrap();
        fs::write(folder.join("state/screen"), "Asleep\n").unwrap();
        let all = [("settings", settings), ("svc", svc), ("cmd", cmd)];
        for (name, text) in all.into_iter().chain([("getprop", getprop), ("dumpsys", dumpsys), ("input", input)]) {
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
        assert_eq!(guard.word("fleetfoot-ready", MOST, &Silent).unwrap(), "stay_awake=on fixed_performance=on");
        assert_eq!((state(path, "stay").as_deref(), state(path, "fixed").as_deref()), (Some("7"), Some("true")));
        // A connection that is cut, and another one at once, again and again, at any moment.
        for pause in [0, 50, 400, 900, 1_500] {
            let before = std::mem::replace(&mut guard, started(path, "a", &hygiene));
            Command::new("kill").args(["-TERM", &before.child.id().to_string()]).status().unwrap();
            thread::spawn(move || drop(before));
            thread::sleep(Duration::from_millis(pause));
        }
        assert_eq!(guard.word("fleetfoot-ready", MOST, &Silent).unwrap(), "stay_awake=on fixed_performance=on");
        assert_eq!((state(path, "stay").as_deref(), state(path, "fixed").as_deref()), (Some("7"), Some("true")));
        drop(guard);
        assert_eq!((state(path, "stay").as_deref(), state(path, "fixed").as_deref()), (Some("3"), Some("false")));
        assert!(!path.join("own/restore").exists() && !path.join("own/holder").exists());
        assert_eq!(state(path, "screen").as_deref(), Some("Asleep"), "it was asleep before");
    }

    #[test]
    fn one_whose_connection_is_gone_without_a_word_makes_room_for_its_own_host() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        programs(path);
        let mut first = started(path, "a", &Hygiene::default());
        first.word("fleetfoot-ready", MOST, &Silent).unwrap();
        assert_eq!(state(path, "screen").as_deref(), Some("Awake"));
        // Its input stays open.
        let mut second = started(path, "a", &Hygiene::default());
        second.word("fleetfoot-ready", MOST, &Silent).unwrap();
        assert!(wait(&mut first.child, MOST).is_some(), "the first one has ended");
        drop(second);
        assert_eq!(state(path, "screen").as_deref(), Some("Asleep"));
        assert!(!path.join("own/holder").exists());
    }

    #[test]
    fn a_holder_that_goes_between_two_looks_is_no_refusal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        programs(path);
        // As if another guard's folder had been there for this moment only.
        let mkdir = r#"case $1 in -p) ;; *) [ -e "${0%/*}/gone" ] || { echo > "${0%/*}/gone"; exit 1; };; esac; PATH=${PATH#*:} exec mkdir "$@""#;
        fs::write(path.join("mkdir"), format!("#!/bin/sh\n{mkdir}\n")).unwrap();
        Command::new("chmod").arg("755").arg(path.join("mkdir")).status().unwrap();
        let mut guard = started(path, "a", &Hygiene::default());
        guard.word("fleetfoot-ready", MOST, &Silent).unwrap();
        assert!(path.join("gone").exists() && path.join("own/holder/who").exists());
        drop(guard);
        assert!(!path.join("own/holder").exists());
        // One that can never be made is a refusal, with its cause.
        fs::write(path.join("mkdir"), "#!/bin/sh\necho no room for it >&2\nexit 1\n").unwrap();
        let refused = started(path, "a", &Hygiene::default()).word("fleetfoot-ready", MOST, &Silent);
        assert!(matches!(&refused, Err(Refused::Ended(why)) if why == "no room for it"), "{refused:?}");
    }

    #[test]
    fn one_that_hears_nothing_of_its_host_puts_everything_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let word = shell::word(&path.join("own").display().to_string());
        let settings = "restore() { echo > \"$f/restored\"; }\nchange() { :; }\n";
        let mut shell = Command::new("sh");
        shell.args(["-c", &script_that_looks(2, 1, (&word, "a", settings))]);
        let mut guard = Guard::start(shell, "").unwrap();
        guard.word("fleetfoot-ready", MOST, &Silent).unwrap();
        assert!(guard.is_alive());
        // The host's sign of life comes later than that.
        assert!(wait(&mut guard.child, MOST).is_some());
        assert!(path.join("own/restored").exists() && !path.join("own/holder").exists());
    }

    #[test]
    fn a_script_that_comes_by_the_input_is_read_to_its_end() {
        for program in ["sh", "dash", "bash", "mksh", "busybox"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path();
            let word = shell::word(&path.join("own").display().to_string());
            let mut shell = Command::new(program);
            shell.args(if program == "busybox" { &["sh", "-s", NAME][..] } else { &["-s", NAME] });
            let settings = "restore() { echo > \"$f/restored\"; }\nchange() { :; }\n";
            let Ok(mut guard) = Guard::start(shell, &format!("{}\nexit\n", script(&word, "a", settings))) else {
                continue;
            };
            guard.word("fleetfoot-ready", MOST, &Silent).unwrap();
            assert!(path.join("own/holder/who").exists());
            drop(guard);
            assert!(path.join("own/restored").exists() && !path.join("own/holder").exists(), "{program}");
        }
    }

    #[test]
    fn what_couldnt_be_put_back_is_put_back_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        programs(path);
        let mut guard = started(path, "a", &Hygiene::default());
        guard.word("fleetfoot-ready", MOST, &Silent).unwrap();
        // As while the phone restarts.
        fs::write(path.join("state/dead"), "").unwrap();
        drop(guard);
        assert!(path.join("own/restore").exists(), "the record stays");
        fs::remove_file(path.join("state/dead")).unwrap();
        let off = Hygiene { stay_awake: false, fixed_performance: false, ..Hygiene::default() };
        let mut next = started(path, "b", &off);
        next.word("fleetfoot-ready", MOST, &Silent).unwrap();
        drop(next);
        assert_eq!((state(path, "fixed").as_deref(), state(path, "stay")), (Some("false"), None));
        assert!(!path.join("own/restore").exists());
    }

    #[test]
    fn a_phone_on_its_battery_is_said_not_to_be_kept_awake() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        programs(path);
        fs::write(path.join("state/battery"), "  AC powered: false\n  USB powered: false\n").unwrap();
        let mut guard = started(path, "a", &Hygiene::default());
        let told = guard.word("fleetfoot-ready", MOST, &Silent).unwrap();
        assert_eq!(told, "stay_awake=only_on_power fixed_performance=on");
    }

    #[test]
    fn what_a_dead_guard_left_is_put_back_by_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        programs(path);
        fs::write(path.join("state/stay"), "2\n").unwrap();
        let mut guard = started(path, "a", &Hygiene::default());
        guard.word("fleetfoot-ready", MOST, &Silent).unwrap();
        guard.child.kill().unwrap();
        guard.child.wait().unwrap();
        assert_eq!(state(path, "stay").as_deref(), Some("7"), "nobody put it back");
        // Which changes nothing itself.
        let off = Hygiene { stay_awake: false, fixed_performance: false, ..Hygiene::default() };
        let mut next = started(path, "b", &off);
        next.word("fleetfoot-ready", MOST, &Silent).unwrap();
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
        assert_eq!(guard.word("fleetfoot-ready", MOST, &Silent).unwrap(), "stay_awake=off fixed_performance=off");
        drop(guard);
        assert_eq!((state(path, "stay"), state(path, "fixed")), (None, None));
    }

    #[test]
    fn another_host_is_waited_for_and_then_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        programs(path);
        let mut first = started(path, "a", &Hygiene::default());
        first.word("fleetfoot-held", MOST, &Silent).unwrap();
        let mut second = started(path, "b", &Hygiene::default());
        let refused = second.word("fleetfoot-held", Duration::from_secs(60), &Silent);
        assert!(
            matches!(&refused, Err(Refused::Busy(process)) if *process == first.child.id().to_string()),
            "{refused:?}"
        );
        drop(first);
        let mut third = started(path, "b", &Hygiene::default());
        third.word("fleetfoot-held", MOST, &Silent).unwrap();
    }
}
