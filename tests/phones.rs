//! Phones over a real adb and a real adbd: what is measured there is as good as here, whole, and survives the cable.

mod common;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use common::phone::{Fault, Phone, await_for, fails, with_adb};
use common::small::{assert_alike, assert_survives_kills, assert_whole, profile, space, visits, words};
use common::{Csv, fleetfoot, journal_text, stderr, text};
use serde_json::Value;
use tempfile::TempDir;

/// What `fleetfoot devices` says of a device: its state, and what to do.
fn listed(phone: &Phone, device: &Path) -> (String, String) {
    let listed = phone.fleetfoot(&["devices", "--json", text(device)]).assert().success();
    let listed: Vec<Value> = serde_json::from_slice(&listed.get_output().stdout).unwrap();
    let own = listed.iter().rev().find(|one| one["serial"] == phone.serial().as_str()).unwrap();
    let word = |key: &str| own[key].as_str().unwrap_or_default().to_owned();
    (word("state"), format!("{}: {}", word("what"), word("remedy")))
}

#[track_caller]
fn assert_listed(phone: &Phone, device: &Path, state: &str, part: &str) {
    let (found, said) = listed(phone, device);
    assert!(found == state && said.contains(part), "{found}, {said}");
}

/// The core that measures where nobody says which.
fn last_core() -> usize {
    thread::available_parallelism().unwrap().get() - 1
}

#[test]
fn a_phone_is_profiled_like_this_machine() {
    let Some(phone) = Phone::start(&[]) else { return };
    let space = space(&phone.folder);
    let device = phone.configure(&format!("cores = [{}]", last_core()));
    let paths = ["here-1", "phone-1", "here-2", "phone-2"].map(|name| phone.path(&format!("{name}.csv")));
    for (index, path) in paths.iter().enumerate() {
        let device = if index % 2 == 0 { "local-cpu" } else { text(&device) };
        phone.fleetfoot(&words(&profile(&space, device, path, 15))).assert().success();
        assert_whole(path, 15);
    }
    let tables = paths.each_ref().map(|path| Csv::read(path));
    let head = &tables[1].provenance;
    assert_eq!((head["device"].as_str(), head["model"].as_str()), ("phone", "FakeCo Fake Phone 1"));
    assert_eq!((head["soc"].as_str(), head["android"].as_str()), ("FS8000", "14 (SDK 34)"));
    assert!(head["agent"].contains("with a C library of its own"), "{}", head["agent"]);
    assert_eq!(head["hygiene"], "stay_awake=on fixed_performance=on");
    for same in ["cpu", "runtime", "cores", "context", "rows"] {
        assert_eq!(head[same], tables[0].provenance[same], "{same}");
    }
    assert_alike(&tables);
    phone.assert_left_alone();
}

#[test]
fn a_phone_of_another_processor_gets_its_agent_and_its_numbers_are_marked_as_an_emulator_s() {
    let agents = assert_cmd::cargo::cargo_bin("fleetfoot").parent().unwrap().join("../agents/aarch64-linux-gnu");
    if !agents.exists() {
        assert!(std::env::var_os("CI").is_none(), "no agent for arm64: make agent-aarch64");
        eprintln!("skipped: no agent for arm64 (make agent-aarch64)");
        return;
    }
    let Some(phone) = Phone::of("arm64", &[]) else { return };
    let (space, device, table) = (space(&phone.folder), phone.configure(""), phone.path("T.csv"));
    let done = phone.fleetfoot(&words(&profile(&space, text(&device), &table, 2))).assert().success();
    assert!(stderr(&done).contains("its numbers mean nothing"), "{}", stderr(&done));
    assert_whole(&table, 2);
    let head = Csv::read(&table).provenance;
    assert_eq!((head["arch"].as_str(), head["emulated"].as_str()), ("aarch64", "yes, the numbers mean nothing"));
    assert!(head["agent"].contains("for aarch64-linux-gnu"), "{}", head["agent"]);
    phone.assert_left_alone();
}

#[test]
fn networks_are_profiled_on_a_phone_as_well() {
    let Some(phone) = Phone::start(&[]) else { return };
    let (space, device, table) = (space(&phone.folder), phone.configure(""), phone.path("T.csv"));
    let networks = ["profile", "--space", &space, "--device", text(&device), "-o", text(&table), "--min-rounds", "6"];
    phone.fleetfoot(&[&networks[..], &["--max-rounds", "8", "--visit", "1"]].concat()).assert().success();
    assert_eq!(Csv::read(&table).provenance["context"], "network");
    let measured = phone.path("M.csv");
    let measure =
        ["measure", "--space", &space, "--device", text(&device), "0000", "-o", text(&measured), "--min-rounds", "6"];
    phone
        .fleetfoot(&[&measure[..], &["--max-rounds", "8", "--visit", "1", "--also", "memory"]].concat())
        .assert()
        .success();
    assert!(Csv::read(&measured).numbers("memory_mib")[0] > 5.0);
    // Whether it is still true hangs on the machine.
    let verify = ["verify", text(&table), "--device", text(&device), "--space", &space, "--min-rounds", "6"];
    let verified = phone.fleetfoot(&[&verify[..], &["--max-rounds", "8"]].concat()).assert();
    let said = stderr(&verified);
    assert!(verified.get_output().status.success() || said.contains("isn't true any more"), "{said}");
    phone.fleetfoot(&["doctor", "--device", text(&device), "--seconds", "0.2"]).assert().success();
    phone.assert_left_alone();
}

#[test]
fn a_connection_that_is_cut_anywhere_is_made_again_and_nothing_is_lost() {
    let Some(phone) = Phone::start(&[]) else { return };
    phone.shell("settings put global stay_on_while_plugged_in 3");
    let (space, device, table) = (space(&phone.folder), phone.configure("reconnect_seconds = 60"), phone.path("T.csv"));
    let mut running = phone.process(&words(&profile(&space, text(&device), &table, 60)));
    let mut running = running.stderr(Stdio::piped()).spawn().unwrap();
    for more in [300, 3_000, 21_111, 777] {
        let before = visits(&table);
        await_for("visits", || visits(&table) > before || running.try_wait().unwrap().is_some());
        // In the middle of a result's line.
        phone.cable.set(Fault::CutReceived(more));
        await_for("the cut", || phone.cable.is_whole() || running.try_wait().unwrap().is_some());
        assert!(running.try_wait().unwrap().is_none(), "it ended before it was cut");
    }
    let ended = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success() && said.contains("waiting for it"), "{said}");
    assert!(Csv::read(&table).provenance["reconnections"].parse::<u32>().unwrap() >= 2, "{said}");
    assert_whole(&table, 60);
    await_for("the setting to be put back", || {
        phone.shell("settings get global stay_on_while_plugged_in").trim() == "3"
    });
    phone.shell("settings delete global stay_on_while_plugged_in");
    phone.assert_left_alone();
}

#[test]
fn a_phone_that_restarts_in_the_middle_is_waited_for() {
    let data = TempDir::new().unwrap();
    let Some(mut phone) = Phone::start(&[("PHONE_DATA", text(data.path()))]) else { return };
    let (space, device, table) = (space(&phone.folder), phone.configure("reconnect_seconds = 60"), phone.path("T.csv"));
    let running =
        phone.process(&words(&profile(&space, text(&device), &table, 60))).stderr(Stdio::piped()).spawn().unwrap();
    await_for("visits", || visits(&table) > 60);
    phone.served.kill();
    thread::sleep(Duration::from_secs(2));
    phone.restart();
    let ended = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success() && said.contains("waiting for it"), "{said}");
    assert!(Csv::read(&table).provenance["reconnections"].parse::<u32>().unwrap() >= 1);
    assert_whole(&table, 60);
    phone.assert_left_alone();
}

#[test]
fn a_phone_that_hangs_for_a_minute_goes_on() {
    let Some(phone) = Phone::start(&[]) else { return };
    let (space, device, table) = (space(&phone.folder), phone.configure(""), phone.path("T.csv"));
    let mut running = phone.process(&words(&profile(&space, text(&device), &table, 60))).spawn().unwrap();
    await_for("visits", || visits(&table) > 60);
    phone.cable.set(Fault::Stall);
    thread::sleep(Duration::from_secs(60));
    let stalled = visits(&table);
    assert!(running.try_wait().unwrap().is_none() && visits(&table) == stalled, "it hangs");
    phone.cable.set(Fault::None);
    assert!(running.wait().unwrap().success());
    assert_whole(&table, 60);
    phone.assert_left_alone();
}

#[test]
fn a_host_that_is_killed_loses_nothing_and_leaves_nothing_running() {
    let Some(phone) = Phone::start(&[]) else { return };
    let (space, device, table) = (space(&phone.folder), phone.configure(""), phone.path("T.csv"));
    let profile = profile(&space, text(&device), &table, 24);
    let check = || phone.assert_left_alone();
    assert_survives_kills(|words| phone.process(words), &profile, (&table, 24), 3, check);
}

#[test]
fn what_a_killed_host_never_heard_of_is_taken_from_the_phone() {
    let Some(phone) = Phone::start(&[]) else { return };
    let (space, device, table) = (space(&phone.folder), phone.configure(""), phone.path("T.csv"));
    let profile = profile(&space, text(&device), &table, 30);
    let mut running = phone.process(&words(&profile)).spawn().unwrap();
    await_for("visits", || visits(&table) > 60);
    running.kill().unwrap();
    running.wait().unwrap();
    phone.assert_left_alone();
    // As if the host had been killed a little earlier: its journal lacks what the last series brought.
    let journal = table.with_extension("csv.journal");
    let lines: Vec<String> = fs::read_to_string(&journal).unwrap().lines().map(str::to_owned).collect();
    let kept = phone.shell("cat /data/local/tmp/fleetfoot-agent/kept/*.jsonl");
    let kept: Vec<Value> = kept.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(!kept.is_empty(), "the phone keeps the last series");
    let tag = |value: &Value| (value["planned"]["tag"][0].as_u64(), value["planned"]["tag"][1].as_u64());
    let is_kept = |line: &str| {
        let visit: Value = serde_json::from_str(line).unwrap_or_default();
        kept.iter().any(|kept| tag(kept) == (visit["round"].as_u64(), visit["subject"].as_u64()))
    };
    let first = lines.iter().position(|line| is_kept(line)).unwrap_or(lines.len());
    fs::write(&journal, lines[..first].join("\n") + "\n").unwrap();
    phone.fleetfoot(&[words(&profile), vec!["--resume"]].concat()).assert().success();
    assert_whole(&table, 30);
    // They are these very samples, not others.
    let whole = journal_text(&journal);
    let walls = |samples: &Value, which: fn(&Value) -> &Value| -> Vec<u64> {
        samples.as_array().unwrap().iter().map(|sample| which(sample).as_u64().unwrap()).collect()
    };
    for record in &kept {
        let visit = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let visit = visit.into_iter().find(|visit| (visit["round"].as_u64(), visit["subject"].as_u64()) == tag(record));
        let (ours, theirs) = (visit.unwrap(), &record["timed"]["samples"]);
        assert_eq!(walls(&ours["samples"], |sample| &sample[1]), walls(theirs, |sample| &sample["wall_ns"]));
    }
}

#[test]
fn a_phone_on_which_somebody_measures_is_left_to_them() {
    let Some(phone) = Phone::start(&[]) else { return };
    let (space, device, table) = (space(&phone.folder), phone.configure(""), phone.path("T.csv"));
    let mut running = phone.process(&words(&profile(&space, text(&device), &table, 4_000)));
    let mut running = running.stderr(Stdio::piped()).spawn().unwrap();
    await_for("visits", || visits(&table) > 40);
    let message = fails(phone.fleetfoot(&["doctor", "--device", text(&device), "--seconds", "0.2"]));
    assert!(message.contains("another run measures") && message.contains("wait until it has ended"), "{message}");
    assert_eq!(phone.shell("settings get global stay_on_while_plugged_in").trim(), "7", "the first one's setting");
    assert_listed(&phone, &device, "busy", "another run measures");
    assert!(running.try_wait().unwrap().is_none(), "the first one goes on");
    let before = visits(&table);
    await_for("visits", || visits(&table) > before + 40);
    Command::new("kill").args(["-INT", &running.id().to_string()]).status().unwrap();
    running.wait().unwrap();
    phone.assert_left_alone();
}

#[test]
fn an_agent_that_was_sent_in_part_is_never_started() {
    let Some(phone) = Phone::start(&[]) else { return };
    let (space, device, table) = (space(&phone.folder), phone.configure("reconnect_seconds = 60"), phone.path("T.csv"));
    phone.cable.set(Fault::CutSent(9_000_000));
    let done = phone.fleetfoot(&words(&profile(&space, text(&device), &table, 6))).assert().success();
    assert!(phone.cable.is_whole(), "it was cut");
    assert!(stderr(&done).contains("trying again") || stderr(&done).contains("waiting for it"), "{}", stderr(&done));
    assert_whole(&table, 6);
    phone.assert_left_alone();
}

#[test]
fn a_disk_that_is_full_is_told_and_what_was_measured_stays() {
    // Too small for the agent.
    let Some(small) = Phone::start(&[("PHONE_SIZE", "20m")]) else { return };
    let space = space(&small.folder);
    let message = fails(small.fleetfoot(&words(&profile(&space, text(&small.configure("")), &small.path("T.csv"), 6))));
    assert!(message.contains("MiB left") && message.contains("free some space"), "{message}");
    assert!(!small.path("T.csv").exists() && !small.path("T.csv.journal").exists());
    assert_listed(&small, &small.configure(""), "no-space", "free some space");
    small.assert_left_alone();
    // Full in the middle of a run.
    let Some(phone) = Phone::start(&[("PHONE_SIZE", "90m")]) else { return };
    let (device, table) = (phone.configure(""), phone.path("T.csv"));
    let profile = profile(&space, text(&device), &table, 30);
    let running = phone.process(&words(&profile)).stderr(Stdio::piped()).spawn().unwrap();
    await_for("visits", || visits(&table) > 60);
    // Whatever becomes free is taken.
    let filling = "n=0; while [ ! -e /data/local/state/enough ]; do n=$((n+1)); dd if=/dev/zero of=/data/local/tmp/full$n bs=4k 2>/dev/null; done";
    let ended = thread::scope(|scope| {
        let filling = scope.spawn(|| phone.try_shell(filling));
        let ended = running.wait_with_output().unwrap();
        phone.shell("touch /data/local/state/enough");
        filling.join().unwrap();
        ended
    });
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && said.contains("No space left") && said.contains("--resume"), "{said}");
    assert!(visits(&table) > 60 && !table.exists());
    phone.shell("rm /data/local/tmp/full*");
    phone.fleetfoot(&[words(&profile), vec!["--resume"]].concat()).assert().success();
    assert_whole(&table, 30);
    phone.assert_left_alone();
}

#[test]
fn an_agent_that_the_system_kills_is_told_with_what_it_may_have_died_of() {
    let Some(phone) = Phone::start(&[]) else { return };
    let (space, device, table) = (space(&phone.folder), phone.configure(""), phone.path("T.csv"));
    // One agent for all rounds.
    let profile = [profile(&space, text(&device), &table, 60), ["--sitting", "0"].map(str::to_owned).to_vec()].concat();
    let running = phone.process(&words(&profile)).stderr(Stdio::piped()).spawn().unwrap();
    await_for("visits", || visits(&table) > 60);
    let killing = "read process rest < /data/local/tmp/fleetfoot-agent/lock; kill -9 $process";
    phone.shell(killing);
    let ended = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && said.contains("perhaps because memory ran out"), "{said}");
    assert!(said.contains("--resume") && visits(&table) > 60 && !table.exists(), "{said}");
    phone.assert_left_alone();
    phone.fleetfoot(&[words(&profile), vec!["--resume"]].concat()).assert().success();
    assert_whole(&table, 60);
}

#[test]
fn what_is_measured_takes_the_place_of_models_on_a_disk_that_is_full() {
    let Some(phone) = Phone::start(&[("PHONE_SIZE", "90m")]) else { return };
    let (space, device, table) = (space(&phone.folder), phone.configure(""), phone.path("T.csv"));
    // The agent is there, and little room beside it.
    phone.fleetfoot(&["doctor", "--device", text(&device), "--seconds", "0.2"]).assert().success();
    phone.shell("cd /data/local/tmp; dd if=/dev/zero of=little bs=4k count=30 2>/dev/null; dd if=/dev/zero of=full bs=4k 2>/dev/null; rm little");
    let done = phone.fleetfoot(&words(&profile(&space, text(&device), &table, 12))).assert().success();
    assert!(stderr(&done).contains("no space left to keep models in"), "{}", stderr(&done));
    assert_whole(&table, 12);
    phone.assert_left_alone();
}

#[test]
fn of_two_phones_one_that_is_unplugged_doesnt_stop_the_other() {
    let (Some(one), Some(other)) = (Phone::start(&[]), Phone::start(&[])) else { return };
    let space = space(&one.folder);
    let (first, second) = (one.configure("name = \"one\"\nreconnect_seconds = 3"), other.configure("name = \"other\""));
    let tables = one.path("tables");
    let mut profile = profile(&space, text(&first), &tables, 30);
    profile.extend(["--device".to_owned(), text(&second).to_owned()]);
    let running = one.process(&words(&profile)).stderr(Stdio::piped()).spawn().unwrap();
    await_for("visits", || visits(&tables.join("one.csv")) > 40);
    one.cable.set(Fault::Off);
    let ended = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && said.contains("1 of 2 devices failed; one: "), "{said}");
    assert!(said.contains("--resume"), "{said}");
    assert_whole(&tables.join("other.csv"), 30);
    assert!(!tables.join("one.csv").exists() && visits(&tables.join("one.csv")) > 40);
    other.assert_left_alone();
    one.cable.set(Fault::None);
    one.connect();
    one.assert_left_alone();
    let resumed = [words(&profile), vec!["--resume"]].concat();
    one.fleetfoot(&resumed).assert().success();
    assert_whole(&tables.join("one.csv"), 30);
}

#[test]
fn identical_phones_share_a_table_and_others_dont() {
    let (Some(one), Some(other)) = (Phone::start(&[]), Phone::start(&[])) else { return };
    let space = space(&one.folder);
    let core = format!("cores = [{}]", last_core());
    let (first, second) =
        (one.configure(&format!("name = \"one\"\n{core}")), other.configure(&format!("name = \"other\"\n{core}")));
    let table = one.path("T.csv");
    let share = |second: &Path, table: &Path| {
        let words = [
            "profile",
            "--space",
            &space,
            "--device",
            text(&first),
            "--device",
            text(second),
            "--share",
            "-o",
            text(table),
        ];
        one.fleetfoot(
            &[&words[..], &["--min-rounds", "6", "--max-rounds", "8", "--visit", "1", "--context", "network"]].concat(),
        )
    };
    let shared = share(&second, &table).assert();
    let said = stderr(&shared);
    // Both are on one core here: they may well differ, and then there is no table.
    if shared.get_output().status.success() {
        let rows = Csv::read(&table);
        assert_eq!(rows.provenance["shared_by"], "one, other");
        assert!(rows.provenance["references_apart_percent"].parse::<f64>().unwrap() >= 0.0);
        assert_eq!(rows.provenance["rows"], rows.rows.len().to_string());
        let again = one.path("again.csv");
        let message = fails(one.fleetfoot(&["table", text(&table), "--statistic", "p20", "-o", text(&again)]));
        assert!(message.contains("measured by several devices (one, other)"), "{message}");
    } else {
        assert!(said.contains("aren't identical") && !table.exists(), "{said}");
    }
    for part in ["one", "other"] {
        assert!(one.path(&format!("T.csv.{part}.journal")).exists(), "what was measured stays");
    }
    // Units are dealt out as networks are.
    let units = one.path("units.csv");
    let shared =
        [&profile(&space, text(&first), &units, 6)[..], &["--device", text(&second), "--share"].map(str::to_owned)];
    let shared = one.fleetfoot(&words(&shared.concat())).assert();
    let said = stderr(&shared);
    if shared.get_output().status.success() {
        let rows = Csv::read(&units).provenance;
        assert_eq!((rows["shared_by"].as_str(), rows["context"].as_str()), ("one, other", "cold"));
    } else {
        assert!(said.contains("aren't identical"), "{said}");
    }
    let basic = other.configure(&format!("name = \"basic\"\noptimisation = \"basic\"\n{core}"));
    let message = fails(share(&basic, &one.path("no.csv")));
    assert!(message.contains("aren't identical (optimisation: 'all' against 'basic')"), "{message}");
    assert!(!one.path("no.csv").exists());
    one.assert_left_alone();
    other.assert_left_alone();
}

#[test]
fn devices_that_are_identical_without_any_noise_share_a_table_in_every_context() {
    let folder = TempDir::new().unwrap();
    let space = space(&folder);
    let path = |name: &str| folder.path().join(name);
    for name in ["one", "other"] {
        fs::write(path(&format!("{name}.toml")), "transport = \"mock\"\n").unwrap();
    }
    let [one, other] = ["one.toml", "other.toml"].map(path);
    for context in ["network", "cold"] {
        let [shared, alone] = ["shared", "alone"].map(|name| path(&format!("{context}-{name}.csv")));
        let profile = |table: &Path, more: &[&str]| {
            let words = ["profile", "--space", &space, "--context", context, "--min-rounds", "6", "--max-rounds", "6"];
            fleetfoot(&[&words[..], &["-o", text(table), "--device", text(&one)], more].concat()).assert().success()
        };
        profile(&shared, &["--device", text(&other), "--share"]);
        profile(&alone, &[]);
        let (shared, alone) = (Csv::read(&shared), Csv::read(&alone));
        assert_eq!(shared.provenance["shared_by"], "one, other");
        assert_eq!(shared.provenance["references_apart_percent"], "0.00");
        assert_eq!(shared.numbers("latency_ms"), alone.numbers("latency_ms"), "{context}");
    }
}

#[test]
fn ctrl_c_puts_everything_back() {
    let Some(phone) = Phone::start(&[]) else { return };
    phone.shell("settings put global stay_on_while_plugged_in 3; input keyevent 223");
    let (space, device, table) = (space(&phone.folder), phone.configure(""), phone.path("T.csv"));
    let mut running = phone.process(&words(&profile(&space, text(&device), &table, 60)));
    let running = running.stderr(Stdio::piped()).spawn().unwrap();
    await_for("visits", || visits(&table) > 40);
    assert_eq!(phone.shell("settings get global stay_on_while_plugged_in").trim(), "7");
    assert_eq!(phone.shell("cat /data/local/state/fixed-performance").trim(), "true");
    assert_eq!(phone.shell("cat /data/local/state/wakefulness").trim(), "Awake");
    Command::new("kill").args(["-INT", &running.id().to_string()]).status().unwrap();
    let ended = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && said.contains("--resume"), "{said}");
    assert_eq!(phone.shell("settings get global stay_on_while_plugged_in").trim(), "3");
    assert_eq!(phone.shell("cat /data/local/state/wakefulness").trim(), "Asleep");
    phone.shell("settings delete global stay_on_while_plugged_in");
    phone.assert_left_alone();
}

#[test]
fn a_phone_that_heat_slows_down_is_waited_for_and_a_battery_that_is_low_too() {
    let Some(phone) = Phone::start(&[]) else { return };
    let hot = "IsStatusOverride: false\\nThermal Status: 2\\n";
    phone.shell(&format!("printf '{hot}' > /data/local/state/thermal"));
    let lines = "[hygiene]\nwait_seconds = 120\n";
    let (space, device, table) = (space(&phone.folder), phone.configure(lines), phone.path("T.csv"));
    let mut running = phone.process(&words(&profile(&space, text(&device), &table, 6)));
    let running = running.stderr(Stdio::piped()).spawn().unwrap();
    thread::sleep(Duration::from_secs(4));
    assert_eq!(visits(&table), 0, "it is too hot to be measured");
    phone.shell("rm /data/local/state/thermal");
    let ended = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success() && said.contains("thermal status is 2") && said.contains("waiting"), "{said}");
    let looks: Vec<Value> = journal_text(&table.with_extension("csv.journal"))
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["look"].clone())
        .filter(Value::is_object)
        .collect();
    assert!(looks[0]["waited_s"].as_f64().unwrap() > 1.0, "{:?}", looks[0]);
    assert_eq!((looks[1]["thermal_status"].as_u64(), looks[1]["battery_percent"].as_f64()), (Some(0), Some(87.0)));
    // Whoever can't wait goes on, and is told.
    phone.shell("printf 'status: 3\\nlevel: 5\\nscale: 100\\n' > /data/local/state/battery");
    let device = phone.configure("[hygiene]\nwait_seconds = 1\n");
    let again = phone.path("again.csv");
    let done = phone.fleetfoot(&words(&profile(&space, text(&device), &again, 2))).assert().success();
    assert!(stderr(&done).contains("its battery has 5 %") && stderr(&done).contains("going on"), "{}", stderr(&done));
    phone.assert_left_alone();
}

#[test]
fn clusters_are_known_and_pinned_to() {
    let cpu = TempDir::new().unwrap();
    for (core, khz) in [(0, 1_700_000), (1, 2_900_000)] {
        let path = cpu.path().join(format!("cpu{core}/cpufreq"));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("cpuinfo_max_freq"), format!("{khz}\n")).unwrap();
        fs::write(path.join("scaling_max_freq"), format!("{}\n", khz - 100_000)).unwrap();
    }
    if thread::available_parallelism().unwrap().get() < 2 {
        eprintln!("skipped: one core");
        return;
    }
    let Some(phone) = Phone::start(&[("PHONE_CPU", text(cpu.path()))]) else { return };
    let space = space(&phone.folder);
    for (cluster, core) in [("little", "0"), ("big", "1")] {
        let device = phone.configure(&format!("cores = \"{cluster}\""));
        let table = phone.path(&format!("{cluster}.csv"));
        let done = phone.fleetfoot(&words(&profile(&space, text(&device), &table, 2))).assert().success();
        let head = Csv::read(&table).provenance;
        assert_eq!(head["cores"], core);
        assert_eq!(head["clusters"], "0 at 1.70 GHz; 1 at 2.90 GHz");
        assert!(head["capped"].contains("GHz"), "{head:?}");
        assert!(stderr(&done).contains("capped"), "{}", stderr(&done));
    }
    let message = fails(phone.fleetfoot(&words(&profile(
        &space,
        text(&phone.configure("cores = \"middle\"")),
        &phone.path("no.csv"),
        2,
    ))));
    assert!(message.contains("no middle"), "{message}");
    assert_listed(&phone, &phone.configure("cores = \"middle\""), "unfit", "no middle");
    assert_listed(&phone, &phone.configure("cores = [7]"), "unfit", "no core 7");
    assert_listed(&phone, &phone.configure("cores = \"big\""), "ready", "");
    let added = phone.path("added.toml");
    phone.fleetfoot(&["devices", "add", "--adb", &phone.serial(), "-o", text(&added)]).assert().success();
    let written = fs::read_to_string(&added).unwrap();
    assert!(written.contains("cores = \"big\"") && written.contains("little: cores [0], 1.70 GHz"), "{written}");
}

#[test]
fn an_agent_of_another_version_is_replaced_or_refused() {
    let data = TempDir::new().unwrap();
    let stale = data.path().join("fleetfoot-agent/agent-0123456789abcdef");
    fs::create_dir_all(&stale).unwrap();
    let old = "#!/system/bin/sh\n[ \"$1\" != --version ] || { echo fleetfoot-agent 0.0.1; exit; }\nread x\necho '{\"reply\":\"failed\",\"why\":\"this agent speaks protocol 3, the host 8: use agent and host of one version\"}'\nread x\n";
    // Of this protocol, but of another release.
    let other = old.split("read x").next().unwrap().to_owned()
        + "read x\necho '{\"reply\":\"hello\",\"magic\":\"fleetfoot-agent\",\"protocol\":8,\"tool\":\"0.0.1\"}'\nread x\n";
    let [old_one, older, other_one] = ["old-agent", "older-agent", "other-agent"].map(|name| data.path().join(name));
    let all = [
        (stale.join("fleetfoot-agent"), old.to_owned()),
        (old_one, old.to_owned()),
        (older, old.replace("failed", "hello")),
        (other_one, other),
    ];
    for (path, script) in all {
        fs::write(&path, script).unwrap();
        Command::new("chmod").arg("755").arg(&path).status().unwrap();
    }
    let Some(phone) = Phone::start(&[("PHONE_DATA", text(data.path()))]) else { return };
    let (space, table) = (space(&phone.folder), phone.path("T.csv"));
    phone.fleetfoot(&words(&profile(&space, text(&phone.configure("")), &table, 2))).assert().success();
    assert!(!stale.exists(), "the old agent is gone");
    // One of which a file is gone, or shorter, is sent again.
    for damage in ["rm $f/libonnxruntime*", "echo > $f/fleetfoot-agent"] {
        phone.shell(&format!("for f in /data/local/tmp/fleetfoot-agent/agent-*; do {damage}; done"));
        let done =
            phone.fleetfoot(&["doctor", "--device", text(&phone.configure("")), "--seconds", "0.2"]).assert().success();
        assert!(stderr(&done).contains("sending fleetfoot-agent"), "{}", stderr(&done));
    }
    for agent in ["old-agent", "older-agent", "other-agent"] {
        let device = phone.configure(&format!("device_agent = \"/data/local/tmp/{agent}\""));
        let message = fails(phone.fleetfoot(&words(&profile(&space, text(&device), &phone.path("no.csv"), 2))));
        assert!(message.contains("of one version"), "{message}");
    }
    phone.assert_left_alone();
}

#[test]
fn what_a_device_is_called_is_data_and_never_a_command() {
    let Some(phone) = Phone::start(&[]) else { return };
    let (space, table) = (space(&phone.folder), phone.path("T.csv"));
    // A folder of the worst name; the agent lives and measures there.
    // Commands that would leave a trace wherever they run.
    let hostile =
        "a b;settings put global pwned 1'\"$(settings put global pwned 1)`settings put global pwned 1`&|\\\\ -x";
    let folder = toml::Value::String(format!("/data/local/tmp/{hostile}"));
    let name = toml::Value::String(format!("{hostile} <script>"));
    let device = phone.configure(&format!("folder = {folder}\nname = {name}"));
    phone.fleetfoot(&words(&profile(&space, text(&device), &table, 2))).assert().success();
    assert_whole(&table, 2);
    assert_eq!(phone.shell("settings get global pwned").trim(), "null");
    // Serial numbers that no device has.
    let scratch = TempDir::new().unwrap();
    for serial in
        ["$(touch pwned)", "; touch pwned;", "-s", "--help", "a b", "'\"", "x\u{1b}[2J".trim_end_matches('\u{1b}')]
    {
        let path = scratch.path().join("hostile.toml");
        fs::write(&path, format!("transport = \"adb\"\nserial = {}\n", toml::Value::String(serial.to_owned())))
            .unwrap();
        let mut command = with_adb(&words(&profile(&space, text(&path), &phone.path("no.csv"), 2)));
        command.current_dir(scratch.path());
        let message = fails(assert_cmd::Command::from_std(command));
        assert!(message.contains("adb sees no phone") || message.contains("control characters"), "{message}");
        let mut command = with_adb(&["devices", "add", "--adb", serial, "-o", "added.toml"]);
        command.current_dir(scratch.path());
        fails(assert_cmd::Command::from_std(command));
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1, "only the configuration is there");
    }
}

#[test]
fn an_agent_that_says_anything_at_all_is_an_error_and_no_more() {
    let data = TempDir::new().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let hello = format!(r#"{{"reply":"hello","magic":"fleetfoot-agent","protocol":8,"tool":"{version}"}}"#);
    let opened = r#"{"reply":"opened","runtime":"\u001b[2J","library":"","pinned":[18446744073709551615],"machine":{"cpu":"c","os":"o","arch":"a","cores":1}}"#;
    let talks: HashMap<&str, String> = HashMap::from([
        ("endless", "cat /dev/zero".to_owned()),
        ("letters", "yes '{' | tr -d '\\n'".to_owned()),
        ("nested", "yes '[' | head -n 1000000 | tr -d '\\n'; echo".to_owned()),
        ("nothing", "exit 0".to_owned()),
        ("half", format!("printf '%s' '{}'", &hello[..20])),
        ("huge", "echo '{\"reply\":\"output\",\"dims\":[1],\"payload\":18446744073709551615}'".to_owned()),
        ("garbage", "head -c 100000 /dev/urandom".to_owned()),
        ("talker", format!("echo '{hello}'; yes '{hello}'")),
        (
            "liar",
            format!(
                "echo '{hello}'; echo '{opened}'; while read x; do echo '{{\"reply\":\"placed\",\"wanted\":\"x\",\"placed\":[]}}'; done"
            ),
        ),
    ]);
    let Some(phone) = Phone::start(&[("PHONE_DATA", text(data.path()))]) else { return };
    let space = space(&phone.folder);
    for (name, talk) in talks {
        let path = data.path().join(name);
        let script = format!(
            "#!/system/bin/sh\n[ \"$1\" != --version ] || {{ echo fleetfoot-agent 9; exit; }}\nread x\n{talk}\n"
        );
        fs::write(&path, script).unwrap();
        Command::new("chmod").arg("755").arg(&path).status().unwrap();
        let device = phone.configure(&format!("device_agent = \"/data/local/tmp/{name}\"\nreconnect_seconds = 1"));
        let table = phone.path("no.csv");
        let done = phone.fleetfoot(&words(&profile(&space, text(&device), &table, 2))).assert().failure();
        let said = stderr(&done);
        assert!(!said.contains("panicked") && said.len() < 6000 && !said.contains('\u{1b}'), "{name}: {said}");
        assert!(!table.exists() && said.lines().last().unwrap().starts_with("fleetfoot: "), "{name}: {said}");
    }
}

#[test]
fn phones_are_listed_with_their_state_and_what_to_do() {
    let Some(phone) = Phone::start(&[]) else { return };
    let device = phone.configure("name = \"mine\"");
    let listed = phone.fleetfoot(&["devices", "--json", text(&device)]).assert().success();
    let listed: Vec<Value> = serde_json::from_slice(&listed.get_output().stdout).unwrap();
    let mine = listed.iter().find(|device| device["name"] == "mine").unwrap();
    assert_eq!((mine["state"].as_str(), mine["model"].as_str()), (Some("ready"), Some("FakeCo Fake Phone 1")));
    assert_eq!((mine["abi"].as_str(), mine["system"].as_str()), (Some("x86_64"), Some("Android 14")));
    assert!(!listed.iter().any(|device| device["name"] == phone.serial().as_str()), "it is configured");
    let all = phone.fleetfoot(&["devices", "--json"]).assert().success();
    let all: Vec<Value> = serde_json::from_slice(&all.get_output().stdout).unwrap();
    let connected = all.iter().find(|device| device["name"] == phone.serial().as_str()).unwrap();
    assert!(connected["remedy"].as_str().unwrap().contains("devices add --adb"), "{connected}");
    for device in &all {
        let state = device["state"].as_str().unwrap();
        assert!(state == "ready" || device["remedy"].as_str().is_some_and(|remedy| remedy.len() > 5), "{device}");
    }
    assert!(all.iter().any(|device| device["name"] == "raspberry-pi" && device["state"] == "unconfigured"));
}

/// `fleetfoot doctor` on a phone whose adb is a script: what adbd can't be made to show here.
fn with_fake_adb(script: &str, lines: &str) -> assert_cmd::Command {
    let folder = TempDir::new().unwrap().keep();
    let adb = folder.join("adb");
    fs::write(&adb, format!("#!/bin/sh\n{script}\n")).unwrap();
    Command::new("chmod").arg("755").arg(&adb).status().unwrap();
    fs::write(folder.join("phone.toml"), format!("transport = \"adb\"\n{lines}")).unwrap();
    let mut command = fleetfoot(&["doctor", "--device", text(&folder.join("phone.toml"))]);
    command.env("PATH", format!("{}:/usr/bin:/bin", text(&folder))).env_remove("ANDROID_SERIAL");
    command
}

#[test]
fn every_state_of_a_phone_is_told_with_what_to_do() {
    let listing = |lines: &str| {
        format!(
            "case \"$*\" in *devices*) printf 'List of devices attached\\n{lines}\\n';; *) echo \"error: closed\" >&2; exit 1;; esac"
        )
    };
    let cases = [
        (listing(""), "adb sees no phone", "USB debugging"),
        (listing("X unauthorized usb:1-1"), "hasn't allowed this machine", "Allow USB debugging"),
        (listing("X offline usb:1-1"), "doesn't answer", "plug it in again"),
        (listing("X no permissions (missing udev rules?); see [http://x]"), "may not be opened", "udev"),
        (listing("X recovery usb:1-1"), "isn't in its normal mode", "adb reboot"),
        (listing("X device usb:1-1\\nY device usb:1-2"), "2 devices (X, Y)", "serial = "),
        ("exit 1".to_owned(), "doesn't list its devices", "adb kill-server"),
        // Connected, and every command is lost.
        (listing("X device usb:1-1"), "broke off", "try again"),
    ];
    for (script, what, remedy) in cases {
        let message = fails(with_fake_adb(&script, ""));
        assert!(message.contains(what) && message.contains(remedy), "{script}: {message}");
    }
    let mut none = with_fake_adb("", "");
    none.env("PATH", "/nowhere");
    let message = fails(none);
    assert!(message.contains("adb can't be started") && message.contains("apt install adb"), "{message}");
    let message = fails(with_fake_adb(&listing("X device usb:1-1"), "serial = \"Z\"\n"));
    assert!(message.contains("adb sees no phone Z"), "{message}");
}

#[test]
fn a_phone_that_is_too_old_or_of_another_kind_or_runs_nothing_is_told() {
    let properties = |lines: &str| {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("props"), lines).unwrap();
        folder
    };
    for (lines, what, state) in [
        ("ro.build.version.sdk=19\nro.build.version.release=4.4\n", "Android 4.4 (SDK 19)", "too-old"),
        ("ro.product.cpu.abi=armeabi-v7a\n", "armeabi-v7a", "wrong-abi"),
    ] {
        let props = properties(lines);
        let Some(phone) = Phone::start(&[("PHONE_PROPS", text(&props.path().join("props")))]) else { return };
        let device = phone.configure("");
        let message = fails(phone.fleetfoot(&["doctor", "--device", text(&device)]));
        assert!(message.contains(what), "{message}");
        assert_listed(&phone, &device, state, what);
    }
    // An agent for another processor, as a user may name it.
    let arm = TempDir::new().unwrap();
    fs::write(arm.path().join("fleetfoot-agent"), b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\xb7\0").unwrap();
    let Some(phone) = Phone::start(&[("PHONE_NOEXEC", "1")]) else { return };
    let device = phone.configure(&format!("agent = {}", toml::Value::String(text(arm.path()).to_owned())));
    let message = fails(phone.fleetfoot(&["doctor", "--device", text(&device)]));
    assert!(message.contains("is for aarch64, the device is x86_64"), "{message}");
    assert_listed(&phone, &phone.configure(""), "not-executable", "folder = ");
    let message = fails(phone.fleetfoot(&["doctor", "--device", text(&phone.configure(""))]));
    assert!(message.contains("Permission denied") && message.contains("folder = "), "{message}");
}
