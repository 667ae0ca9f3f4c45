//! Boards over a real ssh and a real sshd: what is measured there is as good as here, whole, and survives the connection.

mod common;

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use common::phone::{Board, Fault, await_for, fails};
use common::small::{assert_alike, assert_survives_kills, assert_whole, profile, space, visits, words};
use common::{Csv, stderr, text};
use serde_json::Value;
use tempfile::TempDir;

#[test]
fn a_board_is_profiled_like_this_machine() {
    let Some(board) = Board::start() else { return };
    let (space, device) = (space(&board.folder), board.configure(""));
    let paths = ["here-1", "board-1", "here-2", "board-2"].map(|name| board.path(&format!("{name}.csv")));
    for (index, path) in paths.iter().enumerate() {
        let device = if index % 2 == 0 { "local-cpu" } else { text(&device) };
        board.fleetfoot(&words(&profile(&space, device, path, 15))).assert().success();
        assert_whole(path, 15);
    }
    let tables = paths.each_ref().map(|path| Csv::read(path));
    let head = &tables[1].provenance;
    assert_eq!((head["device"].as_str(), head["system"].as_str()), ("board", "Board OS 1"));
    assert!(head["agent"].starts_with("fleetfoot-agent "), "{}", head["agent"]);
    for same in ["cpu", "runtime", "cores", "context", "rows"] {
        assert_eq!(head[same], tables[0].provenance[same], "{same}");
    }
    assert_alike(&tables);
    board.assert_left_alone();
    assert!(board.shell("ls .cache/fleetfoot-agent").contains("agent-"), "the agent stays for the next run");
    assert!(!board.shell("ls .cache/fleetfoot-agent").contains("models"));
}

#[test]
fn a_connection_that_is_cut_or_stalls_is_made_again_and_nothing_is_lost() {
    let Some(board) = Board::start() else { return };
    let (space, device, table) = (space(&board.folder), board.configure("reconnect_seconds = 60"), board.path("T.csv"));
    let running = board.process(&words(&profile(&space, text(&device), &table, 40))).stderr(Stdio::piped()).spawn();
    let mut running = running.unwrap();
    for more in [2_000, 11_111] {
        let before = visits(&table);
        await_for("visits", || visits(&table) > before + 20 || running.try_wait().unwrap().is_some());
        board.cable.set(Fault::CutReceived(more));
        await_for("the cut", || board.cable.is_whole() || running.try_wait().unwrap().is_some());
        assert!(running.try_wait().unwrap().is_none(), "it ended before it was cut");
    }
    let before = visits(&table);
    await_for("visits", || visits(&table) > before + 20 || running.try_wait().unwrap().is_some());
    // Longer than a connection may say nothing.
    board.cable.set(Fault::Stall);
    thread::sleep(Duration::from_secs(25));
    board.cable.set(Fault::None);
    let ended = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success() && said.contains("waiting for it"), "{said}");
    assert_whole(&table, 40);
    board.assert_left_alone();
}

#[test]
fn a_host_that_is_killed_loses_nothing_and_leaves_nothing_running() {
    let Some(board) = Board::start() else { return };
    let (space, device, table) = (space(&board.folder), board.configure(""), board.path("T.csv"));
    let profile = profile(&space, text(&device), &table, 24);
    let check = || {
        board.assert_left_alone();
        // The shared connection ends with its host, too.
        await_for("ssh's end", || {
            let keys = text(&board.path("keys")).to_owned();
            let running = Command::new("ps").args(["-eo", "args"]).output().unwrap();
            let running = String::from_utf8_lossy(&running.stdout).into_owned();
            let is_ours = |line: &str| line.contains(&keys) && line.contains("ControlMaster=yes");
            !running.lines().any(|line| line.contains("ssh") && is_ours(line))
        });
    };
    assert_survives_kills(|words| board.process(words), &profile, (&table, 24), 2, check);
}

#[test]
fn an_unknown_host_s_key_is_never_waved_through() {
    let Some(board) = Board::start() else { return };
    let device = board.configure("");
    let doctor = ["doctor", "--device", text(&device), "--seconds", "0.2"];
    let known = board.path("keys/known_hosts");
    let right = fs::read_to_string(&known).unwrap();
    // Whatever the user's own configuration says.
    let config = board.path("keys/config");
    let lax = fs::read_to_string(&config).unwrap() + "    StrictHostKeyChecking no\n";
    fs::write(&config, lax).unwrap();
    fs::write(&known, "").unwrap();
    let message = fails(board.fleetfoot(&doctor));
    assert!(message.contains("isn't known") && message.contains("compare the fingerprint"), "{message}");
    assert_eq!(fs::read_to_string(&known).unwrap(), "", "the key isn't remembered");
    let other = board.path("other");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", text(&other)]).status();
    assert!(made.unwrap().success());
    let key = fs::read_to_string(board.path("other.pub")).unwrap();
    fs::write(&known, format!("board {key}")).unwrap();
    let message = fails(board.fleetfoot(&doctor));
    assert!(message.contains("isn't the one that is known") && message.contains("in between"), "{message}");
    fs::write(&known, right).unwrap();
    board.fleetfoot(&doctor).assert().success();
    // A jump host's key isn't waved through either, and nobody is asked about it.
    let jump = format!(
        "{}    ProxyJump jump\nHost jump\n    HostName 127.0.0.1\n    Port {}\n    HostKeyAlias jump\n    User pi\n    UserKnownHostsFile \"{}\"\n",
        fs::read_to_string(&config).unwrap(),
        board.cable.port,
        text(&known),
    );
    let direct = fs::read_to_string(&config).unwrap();
    fs::write(&config, jump).unwrap();
    let message = fails(board.fleetfoot(&doctor));
    assert!(message.contains("isn't known"), "{message}");
    fs::write(&config, direct).unwrap();
    // Another key of the user's.
    let stranger = fs::read_to_string(&config).unwrap().replace("keys/id\"", "other\"");
    fs::write(&config, stranger).unwrap();
    let message = fails(board.fleetfoot(&doctor));
    assert!(message.contains("lets nobody in") && message.contains("ssh-copy-id board"), "{message}");
}

#[test]
fn what_the_user_s_configuration_has_for_other_uses_of_a_host_is_left_out() {
    let Some(board) = Board::start() else { return };
    let (config, port) = (board.path("keys/config"), common::phone::free_port());
    let more = format!(
        "    ControlMaster auto\n    ControlPersist yes\n    LocalForward 127.0.0.1:{port} 127.0.0.1:9\n    RemoteCommand echo no\n    RequestTTY force\n"
    );
    fs::write(&config, fs::read_to_string(&config).unwrap() + &more).unwrap();
    let device = board.configure("");
    let running =
        board.process(&["doctor", "--device", text(&device), "--seconds", "4"]).stdout(Stdio::piped()).spawn();
    let mut running = running.unwrap();
    await_for("the agent", || board.shell_past("cat .cache/fleetfoot-agent/lock 2>/dev/null").contains(' '));
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "nothing listens");
    assert!(running.wait().unwrap().success());
    let keys = text(&board.path("keys")).to_owned();
    await_for("ssh's end", || {
        let running = Command::new("ps").args(["-eo", "args"]).output().unwrap();
        let running = String::from_utf8_lossy(&running.stdout).into_owned();
        !running.lines().any(|line| {
            line.contains("ssh") && (line.contains("[mux]") || (line.contains("ssh -F") && line.contains(&keys)))
        })
    });
}

#[test]
fn hosts_that_cant_be_reached_are_told_and_their_names_are_data() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("host.toml");
    let message_of = |host: &str| {
        let host = toml::Value::String(host.to_owned());
        fs::write(&path, format!("transport = \"ssh\"\nhost = {host}\n")).unwrap();
        let mut command = common::fleetfoot(&["doctor", "--device", text(&path)]);
        command.current_dir(folder.path());
        fails(command)
    };
    let message = message_of("nowhere.invalid");
    assert!(message.contains("can't be reached") && message.contains("SSH server"), "{message}");
    for host in
        ["-oProxyCommand=touch pwned", "a;touch pwned", "$(touch pwned)", "a b", "a\nb", "`touch pwned`", "u@-x"]
    {
        let message = message_of(host);
        assert!(message.contains("line 2, host") && message.contains("letters, digits"), "{host}: {message}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "only the configuration is there");
    let mut command = common::fleetfoot(&["devices", "add", "--ssh", "-oProxyCommand=touch pwned", "-o", "x.toml"]);
    command.current_dir(folder.path());
    fails(command);
    fs::write(&path, "transport = \"ssh\"\nhost = \"board\"\n").unwrap();
    let mut none = common::fleetfoot(&["doctor", "--device", text(&path)]);
    none.env("PATH", "/nowhere");
    let message = fails(none);
    assert!(message.contains("ssh can't be started") && message.contains("openssh-client"), "{message}");
}

#[test]
fn a_board_is_added_by_what_it_tells() {
    let Some(board) = Board::start() else { return };
    let (added, own) = (board.path("added.toml"), board.path("configuration"));
    let add = board.fleetfoot(&["devices", "add", "--ssh", "board", "-o", text(&added)]).assert().success();
    assert!(stderr(&add).contains("profile --device"), "{}", stderr(&add));
    let written = fs::read_to_string(&added).unwrap();
    assert!(written.contains("host = \"board\"") && written.contains("Board OS 1, x86_64"), "{written}");
    let refused = fails(board.fleetfoot(&["devices", "add", "--ssh", "board", "-o", text(&added)]));
    assert!(refused.contains("--force"), "{refused}");
    // Into the folder of the user's own devices, whose names are enough then.
    let mut add = board.fleetfoot(&["devices", "add", "--ssh", "board"]);
    add.env("XDG_CONFIG_HOME", &own).assert().success();
    assert!(own.join("fleetfoot/devices/board.toml").exists());
    let mut doctor = board.fleetfoot(&["doctor", "--device", "board", "--seconds", "0.2"]);
    doctor.env("XDG_CONFIG_HOME", &own).assert().success();
    let mut devices = board.fleetfoot(&["devices", "--json"]);
    let listed = devices.env("XDG_CONFIG_HOME", &own).assert().success();
    let listed: Vec<Value> = serde_json::from_slice(&listed.get_output().stdout).unwrap();
    let listed = listed.iter().find(|device| device["name"] == "board").unwrap();
    assert_eq!((listed["state"].as_str(), listed["system"].as_str()), (Some("ready"), Some("Board OS 1")));
}
