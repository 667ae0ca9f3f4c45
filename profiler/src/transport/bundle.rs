//! Builds of the agent for other machines: which one fits a device, and of what files it is made.
//!
//! A build is a folder `agents/TARGET`, beside `fleetfoot` or one level up (`make agent-aarch64` and its like make it there), or the one
//! that the device's configuration names. All its files are sent: the agent, ONNX Runtime, and where there is a `ld-linux-…` the C
//! library by which it runs on systems that have none, or another one. A file `about` says in one line what it is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fleetfoot_protocol::hex;
use sha2::{Digest, Sha256};

use super::facts::Facts;
use crate::device::DeviceConfig;
use crate::unready::{State, Unready, printable};

const PROGRAM: &str = "fleetfoot-agent";
const ABOUT: &str = "about";

/// A file of a build.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub name: String,
    pub path: PathBuf,
    pub digest: String,
    pub bytes: u64,
}

/// A build of the agent.
#[derive(Clone, Debug)]
pub(super) struct Bundle {
    /// What it is, for people.
    pub about: String,
    pub files: Vec<Piece>,
    pub program: String,
    /// The processors that it is for, as `uname -m` names them, where its file says it.
    machine: Option<String>,
    /// The loader that starts the program with the libraries beside it, where there is one.
    pub loader: Option<String>,
}

/// Builds that run on a device, the best one first.
fn targets(facts: &Facts) -> Result<Vec<String>, Unready> {
    let machine = facts.get("machine").unwrap_or("unknown");
    // What programs are made for: the kernel may be wider.
    let arch = match facts.get("abi").unwrap_or(machine) {
        "arm64-v8a" | "aarch64" | "arm64" => "aarch64",
        "x86_64" | "amd64" => "x86_64",
        other => {
            let what = format!("there is no agent for devices of this kind ({other})");
            return Err(Unready::new(
                State::WrongAbi,
                what,
                "measure on a 64-bit one (arm64, x86_64), or build an agent on it and name it (device_agent = \"…\")",
            ));
        }
    };
    let gnu = format!("{arch}-linux-gnu");
    Ok(if facts.is_android() { vec![format!("{arch}-linux-android"), gnu] } else { vec![gnu] })
}

fn homes() -> Vec<PathBuf> {
    let exe = std::env::current_exe().and_then(|path| path.canonicalize()).unwrap_or_default();
    // Cargo's test programs lie one folder below the programs themselves.
    exe.ancestors().skip(1).take(3).map(|folder| folder.join("agents")).collect()
}

impl Bundle {
    /// The build that the configuration names, else the best one that there is for the device.
    pub(super) fn find(device: &DeviceConfig, facts: &Facts) -> Result<Self, Unready> {
        let unreadable = |path: &Path, error: &io::Error| {
            let what = format!("the agent's build {} can't be read ({error})", path.display());
            Unready::new(
                State::WrongAbi,
                what,
                "name a folder with fleetfoot-agent and its ONNX Runtime (agent = \"…\")",
            )
        };
        if let Some(named) = &device.agent {
            let bundle = Self::read(named).map_err(|error| unreadable(named, &error))?;
            return bundle.fits(facts).map_or(Ok(bundle), Err);
        }
        let targets = targets(facts)?;
        let homes = homes();
        let found = targets.iter().flat_map(|target| homes.iter().map(move |home| home.join(target)));
        if let Some(folder) = found.into_iter().find(|folder| folder.join(PROGRAM).is_file()) {
            let bundle = Self::read(&folder).map_err(|error| unreadable(&folder, &error))?;
            return bundle.fits(facts).map_or(Ok(bundle), Err);
        }
        let arch = targets.last().and_then(|target| target.split('-').next()).unwrap_or_default();
        Err(Unready::new(
            State::WrongAbi,
            format!("there is no agent for {}", targets.join(" or ")),
            format!("`make agent-{arch}` builds one"),
        ))
    }

    /// Why it can't run on a device; `None` if it may. A shell that is given a program for another processor takes it for a script.
    fn fits(&self, facts: &Facts) -> Option<Unready> {
        let machine = facts.get("machine")?;
        let made_for = self.machine.as_deref().filter(|made_for| *made_for != machine && machine != "arm64")?;
        Some(Unready::new(
            State::WrongAbi,
            format!("{} is for {made_for}, the device is {machine}", self.about),
            "name an agent that was built for it (agent = \"…\"), or none: then the one that fits is taken",
        ))
    }

    fn read(folder: &Path) -> io::Result<Self> {
        let (mut files, mut machine) = (Vec::new(), None);
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if path.is_file() && name != ABOUT {
                let content = fs::read(&path)?;
                if name == PROGRAM {
                    machine = machine_of(&content).map(str::to_owned);
                }
                files.push(Piece { name, path, digest: hex(&Sha256::digest(&content)), bytes: content.len() as u64 });
            }
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        if !files.iter().any(|file| file.name == PROGRAM) {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("it holds no {PROGRAM}")));
        }
        let about = fs::read_to_string(folder.join(ABOUT))
            .unwrap_or_else(|_| format!("fleetfoot-agent of {}", folder.display()));
        let loader = files.iter().find(|file| file.name.starts_with("ld-")).map(|file| file.name.clone());
        Ok(Self { about: printable(&about), files, program: PROGRAM.to_owned(), machine, loader })
    }

    /// Of all its files: what names it on a device.
    pub(super) fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for file in &self.files {
            hash.update(format!("{} {}\n", file.digest, file.name));
        }
        hex(&hash.finalize())[..16].to_owned()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// The processors that a program is for, by the head of its ELF file.
fn machine_of(program: &[u8]) -> Option<&'static str> {
    let head: &[u8; 20] = program.first_chunk()?;
    match (&head[..4], u16::from_le_bytes([head[18], head[19]])) {
        (b"\x7fELF", 62) => Some("x86_64"),
        (b"\x7fELF", 183) => Some("aarch64"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_for_another_processor_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut head = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\xb7\0rest".to_vec();
        fs::write(folder.path().join(PROGRAM), &head).unwrap();
        let arm = Bundle::read(folder.path()).unwrap();
        assert_eq!(arm.fits(&facts("machine=x86_64\n")).unwrap().state, State::WrongAbi);
        assert_eq!((arm.fits(&facts("machine=aarch64\n")), arm.fits(&facts(""))), (None, None));
        head[18] = 1;
        assert_eq!((machine_of(&head), machine_of(b"#!/bin/sh")), (None, None));
    }

    fn facts(text: &str) -> Facts {
        Facts::parse(text)
    }

    #[test]
    fn devices_get_the_build_that_runs_there() {
        let android = "machine=aarch64\nsdk=34\nabi=arm64-v8a\n";
        assert_eq!(targets(&facts(android)).unwrap(), ["aarch64-linux-android", "aarch64-linux-gnu"]);
        assert_eq!(targets(&facts("machine=x86_64\n")).unwrap(), ["x86_64-linux-gnu"]);
        for old in ["machine=armv7l\n", "machine=aarch64\nsdk=30\nabi=armeabi-v7a\n", ""] {
            assert_eq!(targets(&facts(old)).unwrap_err().state, State::WrongAbi);
        }
    }

    #[test]
    fn a_build_is_named_by_what_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Bundle::read(folder.path()).is_err(), "no agent");
        fs::write(folder.path().join(PROGRAM), "one").unwrap();
        fs::write(folder.path().join("ld-linux-x.so.1"), "loader").unwrap();
        fs::write(folder.path().join(ABOUT), "an agent\n").unwrap();
        let one = Bundle::read(folder.path()).unwrap();
        assert_eq!((one.about.as_str(), one.files.len(), one.bytes()), ("an agent", 2, 9));
        assert_eq!(one.loader.as_deref(), Some("ld-linux-x.so.1"));
        fs::write(folder.path().join(PROGRAM), "two").unwrap();
        assert_ne!(Bundle::read(folder.path()).unwrap().digest(), one.digest());
    }
}
