//! How the agent comes onto a device.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Installed;
use crate::transport::Link as _;
use crate::transport::bundle::{Bundle, Piece};
use crate::transport::facts::{SCRIPT, folder_word};
use crate::transport::readiness::{self, lacks_room};
use crate::transport::remote::{Remote, Trouble};
use crate::transport::shell::word;
use crate::unready::{State, Unready, printable};

/// How long the SHA-256 of an agent may take.
const CHECK: Duration = Duration::from_secs(120);
/// How often the agent is sent before the connection counts as too bad for it.
const DEPLOY_TRIES: u32 = 5;

impl<R: Remote + 'static> Installed<R> {
    /// Whether an agent that is to lie there does.
    pub(super) fn check_own(&self, program: &str) -> Result<(), Unready> {
        let name = self.remote.name();
        let tried = self.remote.script(&format!("{} --version 2>&1", self.program), SCRIPT);
        match tried.map_err(|trouble| trouble.unready(&name))? {
            (said, 0) if said.starts_with("fleetfoot-agent ") => Ok(()),
            (said, _) => Err(Unready::new(
                State::NotExecutable,
                format!("{} on {name} is no agent that runs ({})", printable(program), printable(&said)),
                "put one there, or leave device_agent away: then one is sent",
            )),
        }
    }

    fn below(&self, path: &str) -> String {
        format!("{}/{}", folder_word(&self.folder), word(path))
    }

    /// The same as an argument of a program that no shell reads: below the home folder where it isn't absolute.
    fn absolute(&self, path: &str) -> Result<String, Unready> {
        if self.folder.starts_with('/') {
            return Ok(format!("{}/{path}", self.folder));
        }
        let name = self.remote.name();
        let (home, _) = self.remote.script("echo \"$HOME\"", SCRIPT).map_err(|trouble| trouble.unready(&name))?;
        Ok(format!("{}/{}/{path}", home.trim_end(), self.folder))
    }

    /// Sends the bundle, unless it is there. What is half there counts for nothing, and goes on from there.
    pub(super) fn send(&self, bundle: &Bundle) -> Result<(), Unready> {
        let (name, target) = (self.remote.name(), readiness::target(bundle));
        if self.facts.has_agent(&target) && self.is_whole(bundle, &target)? {
            return Ok(());
        }
        if let Some(unready) = lacks_room(&name, &self.folder, bundle, &self.facts) {
            return Err(unready);
        }
        self.watch.tell(&format!("sending {} to {name} ({} MiB)", bundle.about, bundle.bytes().div_ceil(1 << 20)));
        let mut tries = 0;
        loop {
            tries += 1;
            match self.send_once(bundle, &target) {
                Ok(()) => return Ok(()),
                Err(Trouble::Cut(why)) if tries < DEPLOY_TRIES => {
                    self.watch.tell(&format!("the connection to {name} broke off ({why}); trying again"));
                    self.wait(&*self.watch)?;
                }
                // A device that vanished meanwhile.
                Err(Trouble::Unready(unready)) if tries < DEPLOY_TRIES && unready.state.is_out_of_reach() => {
                    self.watch.tell(&format!("{}; waiting for it", unready.what));
                    self.wait(&*self.watch)?;
                }
                Err(trouble) => return Err(trouble.unready(&name)),
            }
        }
    }

    /// Whether all files of a bundle that was sent are still there, as long as they were. One that isn't whole is deleted.
    fn is_whole(&self, bundle: &Bundle, target: &str) -> Result<bool, Unready> {
        let (name, whole) = (self.remote.name(), self.below(target));
        let words: Vec<String> = bundle.files.iter().map(|file| word(&file.name)).collect();
        let counted =
            format!("cd {whole} && for f in {}; do echo $(wc -c < \"$f\") \"$f\"; done 2>/dev/null", words.join(" "));
        let (said, _) = self.remote.script(&counted, SCRIPT).map_err(|trouble| trouble.unready(&name))?;
        let is_there = |file: &Piece| said.lines().any(|line| line == format!("{} {}", file.bytes, file.name));
        if bundle.files.iter().all(is_there) {
            return Ok(true);
        }
        self.remote.script(&format!("rm -rf {whole}"), SCRIPT).map_err(|trouble| trouble.unready(&name))?;
        Ok(false)
    }

    fn send_once(&self, bundle: &Bundle, target: &str) -> Result<(), Trouble> {
        let part = format!("{target}.part");
        self.begin(&part)?;
        let there = self.digests(bundle, &part)?;
        for file in bundle.files.iter().filter(|file| !there.has(file)) {
            let to = self.absolute(&format!("{part}/{}", file.name)).map_err(Trouble::Unready)?;
            self.remote.send(&file.path, &to, &*self.watch)?;
        }
        let there = self.digests(bundle, &part)?;
        if let Some(damaged) = bundle.files.iter().find(|file| !there.has(file)) {
            return Err(Trouble::Cut(format!("{} isn't whole there", damaged.name)));
        }
        let (part, whole) = (self.below(&part), self.below(target));
        let (said, status) = self.remote.script(&format!("chmod 755 {part}/* && mv {part} {whole} 2>&1"), SCRIPT)?;
        match status {
            0 => Ok(()),
            _ => Err(Trouble::Cut(format!("the agent can't be put in its place: {}", printable(&said)))),
        }
    }

    /// Makes the folder of a part of an agent. Agents of other versions are gone with their space.
    fn begin(&self, part: &str) -> Result<(), Trouble> {
        let (name, folder) = (self.remote.name(), folder_word(&self.folder));
        let (kept, part) = (word(part), self.below(part));
        let prepare = format!(
            "umask 077; mkdir -p {folder} && cd {folder} && for a in agent-????????????????*; do [ \"$a\" = {kept} ] || rm -rf \"./$a\"; done; mkdir -p {part} 2>&1"
        );
        let (said, status) = self.remote.script(&prepare, SCRIPT)?;
        if status == 0 {
            return Ok(());
        }
        Err(Trouble::of_writing(&name, &said).unwrap_or_else(|| {
            Trouble::Unready(Unready::new(
                State::NotExecutable,
                format!("{name}: {} can't be made ({})", self.folder, printable(&said)),
                "name a folder that can be written in the device's configuration (folder = \"…\")",
            ))
        }))
    }

    /// What the device has of a bundle's files.
    fn digests(&self, bundle: &Bundle, part: &str) -> Result<Digests, Trouble> {
        let words: Vec<String> = bundle.files.iter().map(|file| word(&file.name)).collect();
        let check = format!("cd {} && sha256sum {} 2>/dev/null", self.below(part), words.join(" "));
        let (said, _) = self.remote.script(&check, CHECK)?;
        let lines = said.lines().filter_map(|line| line.split_once(char::is_whitespace));
        let named = lines.map(|(sum, name)| (name.trim_start_matches([' ', '*']).to_owned(), sum.to_owned()));
        Ok(Digests(named.collect()))
    }

    /// How the agent's program is started there: by itself, or by the loader of the libraries that lie beside it.
    pub(super) fn starts(&self, bundle: &Bundle) -> Result<(String, String), Unready> {
        let (name, folder) = (self.remote.name(), self.below(&readiness::target(bundle)));
        let program = word(&format!("./{}", bundle.program));
        // The loader takes colons and semicolons of a path for separators: the folder is the one that it starts in.
        let by_loader =
            bundle.loader.as_ref().map(|loader| format!("{} --library-path . {program}", word(&format!("./{loader}"))));
        let mut said = Vec::new();
        let direct = bundle.about.replacen("a C library of its own", "the device's C library, built against one", 1);
        let ways = [(Some(program), direct), (by_loader, bundle.about.clone())];
        for (program, about) in ways.into_iter().filter_map(|(program, about)| Some((program?, about))) {
            let program = format!("cd {folder} && {program}");
            let tried = format!("{program} --version 2>&1");
            let (text, status) = self.remote.script(&tried, SCRIPT).map_err(|trouble| trouble.unready(&name))?;
            if status == 0 && text.starts_with("fleetfoot-agent ") {
                return Ok((program, about));
            }
            said.push(printable(&text));
        }
        let what = format!("{name} can't run {} in {} ({})", bundle.about, self.folder, said.join("; "));
        let (state, remedy) = if said.iter().any(|text| text.contains("Permission denied")) {
            (
                State::NotExecutable,
                "name a folder whose programs may be run in the device's configuration (folder = \"…\")".to_owned(),
            )
        } else {
            (
                State::WrongAbi,
                format!(
                    "build an agent that fits {} and name it (agent = \"…\"): docs/phones.md",
                    self.facts.get("machine").unwrap_or("it")
                ),
            )
        };
        Err(Unready::new(state, what, remedy))
    }
}

/// SHA-256 of files on a device, by their names.
struct Digests(BTreeMap<String, String>);

impl Digests {
    fn has(&self, file: &Piece) -> bool {
        self.0.get(&file.name) == Some(&file.digest)
    }
}
