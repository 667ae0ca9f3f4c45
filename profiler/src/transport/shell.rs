//! Words and scripts for the POSIX shell of a device. What comes from outside is a quoted word there, never a part of the script.

use super::process::Ended;

/// A word that the shell takes as it is, whatever it holds.
pub(super) fn word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// What stands in front of a script's exit status on its last line. A connection may be lost without a word, and with the exit
/// status of success: only a script that ends with this line came to its end.
const END: &str = "fleetfoot-end";

/// And in front of what it says: shells may greet.
const BEGIN: &str = "fleetfoot-begin";

/// The script, so that it says at its end that it came there.
pub(super) fn framed(script: &str) -> String {
    // Not every shell that passes it on takes line breaks.
    let end = if script.contains('\n') { "\n" } else { " " };
    format!("echo {BEGIN}; ( {script}{end}); s=$?; echo; echo \"{END} $s\"")
}

/// What a framed script said, and its exit status; `None` where it didn't come to its end.
pub(super) fn unframed(ended: &Ended) -> Option<(String, i32)> {
    let text = String::from_utf8_lossy(&ended.stdout).replace("\r\n", "\n");
    let text = text.split_once(&format!("{BEGIN}\n"))?.1;
    let (said, last) = text.trim_end_matches('\n').rsplit_once('\n')?;
    let status = last.strip_prefix(END)?.strip_prefix(' ')?.parse().ok()?;
    Some((said.to_owned(), status))
}

/// What stands on the agent's standard error behind it, in front of its exit status.
const EXIT: &str = "fleetfoot-agent-exit";

/// A program in a script so that its exit status is told behind it, on standard error.
pub(super) fn told(program: &str) -> String {
    format!("{program}; echo \"{EXIT} $?\" >&2")
}

/// The exit status that was told, and the talk without it.
pub(super) fn exit_of(talk: &[String]) -> (Option<i32>, Option<&String>) {
    let status = |line: &String| line.strip_prefix(EXIT)?.trim().parse().ok();
    (talk.iter().rev().find_map(status), talk.iter().rev().find(|line| !line.is_empty() && status(line).is_none()))
}

#[cfg(all(test, unix))]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::transport::process::run;

    fn by_the_shell(script: &str) -> Option<(String, i32)> {
        let mut command = Command::new("sh");
        command.args(["-c", &framed(script)]);
        unframed(&run(command, Vec::new(), Duration::from_secs(20)).unwrap())
    }

    #[test]
    fn a_script_that_came_to_its_end_says_so() {
        assert_eq!(by_the_shell("echo a; echo b; false"), Some(("a\nb\n".to_owned(), 1)));
        assert_eq!(by_the_shell("printf a; exit 7"), Some(("a".to_owned(), 7)));
        assert_eq!(by_the_shell("true\n# a remark"), Some((String::new(), 0)));
        assert_eq!(by_the_shell("kill -9 $$; sleep 5"), None);
        let said = |text: &str| {
            let status = Command::new("true").status().unwrap();
            unframed(&Ended { status, stdout: text.into(), stderr: String::new() })
        };
        assert_eq!(said("hello\nfleetfoot-begin\nx\n\nfleetfoot-end 0\n"), Some(("x\n".to_owned(), 0)));
        assert_eq!(said("fleetfoot-begin\r\nx\r\n\r\nfleetfoot-end 0\r\n"), Some(("x\n".to_owned(), 0)));
        for cut in ["", "x", "x\n\nfleetfoot-end", "x\n\nfleetfoot-end \n", "fleetfoot-end 0\nx\n"] {
            assert_eq!(said(&format!("fleetfoot-begin\n{cut}")), None, "{cut:?}");
            assert_eq!(said(cut), None, "{cut:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_word_is_data(text in "[ -~\n\t$`'\"\\\\;|&(){}<>*?!#~=%ä€-]{0,40}") {
            let said = by_the_shell(&format!("printf %s {}", word(&text))).unwrap();
            prop_assert_eq!(said, (text, 0));
        }
    }
}
