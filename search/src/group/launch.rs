//! Which rank this process is, as whatever started it says: PyTorch's variables, Slurm's, Open MPI's.

use std::fmt;
use std::str::FromStr;

/// Who says which rank a process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dist {
    /// Whoever does: PyTorch's variables, else Open MPI's, else Slurm's, else nobody.
    #[default]
    Auto,
    /// Nobody: it learns alone.
    Off,
    /// RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, as torchrun sets them.
    Env,
    /// `srun`.
    Slurm,
    /// `mpirun` of Open MPI.
    Ompi,
}

impl Dist {
    const ALL: [Self; 5] = [Self::Auto, Self::Off, Self::Env, Self::Slurm, Self::Ompi];
}

impl fmt::Display for Dist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Off => "off",
            Self::Env => "env",
            Self::Slurm => "slurm",
            Self::Ompi => "ompi",
        })
    }
}

impl FromStr for Dist {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|dist| dist.to_string() == text);
        known.ok_or_else(|| format!("'{text}' tells no ranks: wanted auto, off, env, slurm or ompi"))
    }
}

/// Variables that don't go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// One of several that belong together isn't there.
    #[error("{missing} isn't set, but {set} is: set both, or learn alone with --dist off")]
    Missing {
        /// What isn't there.
        missing: String,
        /// What is.
        set: String,
    },
    /// None is there, though they were asked for.
    #[error("--dist {dist}: {missing} isn't set: {remedy}")]
    Nobody {
        /// Who was asked for.
        dist: Dist,
        /// What isn't there.
        missing: String,
        /// What to do.
        remedy: String,
    },
    /// One says nonsense.
    #[error("{name}={value}: wanted {wanted}")]
    Value {
        /// The variable.
        name: String,
        /// Its value.
        value: String,
        /// What it should be.
        wanted: String,
    },
}

/// Where ranks find each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendezvous {
    /// Rank 0's host.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// Whether rank 0 listens there; else whoever started the ranks does.
    pub hosted: bool,
    /// In front of all keys: a store may be others', too.
    pub prefix: String,
}

impl fmt::Display for Rendezvous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A process among those that learn together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Which it is, from 0.
    pub rank: usize,
    /// How many there are.
    pub size: usize,
    /// Which it is on its machine.
    pub local_rank: usize,
    /// Where all meet.
    pub rendezvous: Rendezvous,
    /// How often these processes were started before. Behind a restart a run goes on from its checkpoint by itself.
    pub restarts: usize,
}

/// No group is larger.
const MAX_SIZE: usize = 1 << 16;
/// Ports that are taken where nobody names one: so many from the first on, below those that systems give away.
const PORTS: (u16, u64) = (15_000, 10_000);

/// An environment.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Launch {
    /// As this process' environment says it; `None`: it is alone.
    pub fn of_environment(dist: Dist) -> Result<Option<Self>, LaunchError> {
        Self::of(dist, &|name| std::env::var(name).ok())
    }

    /// As an environment says it.
    pub fn of(dist: Dist, variables: Variables<'_>) -> Result<Option<Self>, LaunchError> {
        // An empty variable is as good as none.
        let set = |name: &str| variables(name).filter(|value| !value.trim().is_empty());
        let environment = Environment(&set);
        let launch = match dist {
            Dist::Off => return Ok(None),
            Dist::Env => environment.of_pytorch(),
            Dist::Slurm => environment.of_slurm(),
            Dist::Ompi => environment.of_open_mpi(),
            Dist::Auto if set(RANK).or(set(WORLD_SIZE)).is_some() => environment.of_pytorch(),
            // mpirun's ranks may have been started by srun, which tells of them, too.
            Dist::Auto if several(set(OMPI_SIZE)) => environment.of_open_mpi(),
            // In a batch script, outside of a step, Slurm says how many tasks there may be, not that this is one of them.
            Dist::Auto if several(set(SLURM_SIZE)) && set(SLURM_RANK).is_some() && set(SLURM_STEP).is_some() => {
                environment.of_slurm()
            }
            Dist::Auto => return Ok(None),
        };
        // Whoever was started as the only one of a group has nobody to wait for.
        Ok(launch?.filter(|launch| launch.size > 1))
    }
}

const RANK: &str = "RANK";
const WORLD_SIZE: &str = "WORLD_SIZE";
const LOCAL_RANK: &str = "LOCAL_RANK";
const MASTER_ADDR: &str = "MASTER_ADDR";
const MASTER_PORT: &str = "MASTER_PORT";
/// torchrun's agent keeps the store, and counts its restarts.
const AGENT_STORE: &str = "TORCHELASTIC_USE_AGENT_STORE";
const RESTARTS: &str = "TORCHELASTIC_RESTART_COUNT";
const SLURM_RANK: &str = "SLURM_PROCID";
const SLURM_SIZE: &str = "SLURM_STEP_NUM_TASKS";
const SLURM_STEP: &str = "SLURM_STEP_ID";
const SLURM_LOCAL: &str = "SLURM_LOCALID";
const SLURM_NODES: &str = "SLURM_STEP_NODELIST";
const SLURM_JOB: &str = "SLURM_JOB_ID";
const SLURM_RESTARTS: &str = "SLURM_RESTART_COUNT";
const OMPI_RANK: &str = "OMPI_COMM_WORLD_RANK";
const OMPI_SIZE: &str = "OMPI_COMM_WORLD_SIZE";
const OMPI_LOCAL: &str = "OMPI_COMM_WORLD_LOCAL_RANK";
const OMPI_LOCAL_SIZE: &str = "OMPI_COMM_WORLD_LOCAL_SIZE";
const OMPI_JOB: &str = "PMIX_NAMESPACE";

fn several(size: Option<String>) -> bool {
    size.is_some_and(|size| size.trim() != "1")
}

struct Environment<'a>(Variables<'a>);

impl Environment<'_> {
    fn of_pytorch(&self) -> Result<Option<Launch>, LaunchError> {
        let names = [RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT];
        self.all(
            Dist::Env,
            &names,
            "set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT for each process, or let torchrun do it",
        )?;
        let agent = (self.0)(AGENT_STORE).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let restarts = self.number(RESTARTS, 0..=usize::MAX)?.unwrap_or(0);
        let prefix = "fleetfoot".to_owned();
        let host = (self.0)(MASTER_ADDR).unwrap_or_default();
        let rendezvous = Rendezvous { host, port: self.port()?, hosted: !agent, prefix };
        self.launch((RANK, WORLD_SIZE, LOCAL_RANK), rendezvous, restarts)
    }

    fn of_slurm(&self) -> Result<Option<Launch>, LaunchError> {
        let names = [SLURM_RANK, SLURM_SIZE, SLURM_JOB];
        self.all(Dist::Slurm, &names, "start it by srun")?;
        let host = match ((self.0)(MASTER_ADDR), (self.0)(SLURM_NODES)) {
            (Some(host), _) => host,
            (None, Some(nodes)) => first_host(&nodes).ok_or_else(|| wrong(SLURM_NODES, &nodes, "a list of hosts"))?,
            (None, None) => return Err(missing(&format!("neither {MASTER_ADDR} nor {SLURM_NODES}"), SLURM_RANK)),
        };
        let job = ["SLURM_JOB_ID", SLURM_STEP].map(|name| (self.0)(name).unwrap_or_default());
        let restarts = self.number(SLURM_RESTARTS, 0..=usize::MAX)?.unwrap_or(0);
        let rendezvous = self.own_store(host, &job.join("."))?;
        self.launch((SLURM_RANK, SLURM_SIZE, SLURM_LOCAL), rendezvous, restarts)
    }

    fn of_open_mpi(&self) -> Result<Option<Launch>, LaunchError> {
        self.all(Dist::Ompi, &[OMPI_RANK, OMPI_SIZE], "start it by mpirun")?;
        let (size, local) = ((self.0)(OMPI_SIZE), (self.0)(OMPI_LOCAL_SIZE));
        let host = match (self.0)(MASTER_ADDR) {
            Some(host) => host,
            None if size == local => "127.0.0.1".to_owned(),
            None => {
                return Err(LaunchError::Missing {
                    missing: MASTER_ADDR.to_owned(),
                    set: format!(
                        "{OMPI_SIZE} (ranks on several hosts: mpirun -x {MASTER_ADDR}=HOST, the host of rank 0)"
                    ),
                });
            }
        };
        let rendezvous = self.own_store(host, &(self.0)(OMPI_JOB).unwrap_or_default())?;
        self.launch((OMPI_RANK, OMPI_SIZE, OMPI_LOCAL), rendezvous, 0)
    }

    /// A store that rank 0 keeps, at the port that is named, or at one that the job's name leads to.
    fn own_store(&self, host: String, job: &str) -> Result<Rendezvous, LaunchError> {
        let port = match (self.0)(MASTER_PORT) {
            Some(_) => self.port()?,
            None => PORTS.0 + (super::mark(std::iter::once(job), std::iter::empty()) % PORTS.1) as u16,
        };
        Ok(Rendezvous { host, port, hosted: true, prefix: format!("fleetfoot/{job}") })
    }

    fn launch(
        &self,
        (rank, size, local): (&str, &str, &str),
        rendezvous: Rendezvous,
        restarts: usize,
    ) -> Result<Option<Launch>, LaunchError> {
        let known = self.number(size, 1..=MAX_SIZE)?.unwrap_or(1);
        let rank = self.number(rank, 0..=known - 1)?.unwrap_or(0);
        let local_rank = self.number(local, 0..=known - 1)?.unwrap_or(0);
        Ok(Some(Launch { rank, size: known, local_rank, rendezvous, restarts }))
    }

    /// Makes sure that all of these are set.
    fn all(&self, dist: Dist, names: &[&str], remedy: &str) -> Result<(), LaunchError> {
        let Some(absent) = names.iter().find(|name| (self.0)(name).is_none()) else { return Ok(()) };
        match names.iter().find(|name| (self.0)(name).is_some()) {
            Some(set) => Err(missing(absent, set)),
            None => {
                let remedy = format!("{remedy}, or leave --dist out to learn alone");
                Err(LaunchError::Nobody { dist, missing: (*absent).to_owned(), remedy })
            }
        }
    }

    fn port(&self) -> Result<u16, LaunchError> {
        Ok(self.number(MASTER_PORT, 1..=usize::from(u16::MAX))?.unwrap_or_default() as u16)
    }

    fn number(&self, name: &str, range: std::ops::RangeInclusive<usize>) -> Result<Option<usize>, LaunchError> {
        let Some(value) = (self.0)(name) else { return Ok(None) };
        let number = value.trim().parse().ok().filter(|number| range.contains(number));
        let (from, to) = range.into_inner();
        let wanted = if to == usize::MAX {
            format!("a number, at least {from}")
        } else {
            format!("a number from {from} to {to}")
        };
        number.map(Some).ok_or_else(|| wrong(name, &value, &wanted))
    }
}

fn missing(missing: &str, set: &str) -> LaunchError {
    LaunchError::Missing { missing: missing.to_owned(), set: set.to_owned() }
}

fn wrong(name: &str, value: &str, wanted: &str) -> LaunchError {
    LaunchError::Value { name: name.to_owned(), value: value.to_owned(), wanted: wanted.to_owned() }
}

/// The first host of a list in Slurm's form: `node3`, `a1,b2`, `rack[1-2]node[08-11,20]`.
fn first_host(list: &str) -> Option<String> {
    let (mut host, mut rest) = (String::new(), list.trim());
    while let Some(at) = rest.find(['[', ',']) {
        host.push_str(&rest[..at]);
        if rest[at..].starts_with(',') {
            rest = "";
            break;
        }
        let (inside, behind) = rest[at + 1..].split_once(']')?;
        host.push_str(inside.split([',', '-']).next()?);
        rest = behind;
    }
    host.push_str(rest);
    Some(host).filter(|host| !host.is_empty() && !host.contains([']', ' ']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(dist: Dist, variables: &[(&str, &str)]) -> Result<Option<Launch>, LaunchError> {
        let find =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Launch::of(dist, &find)
    }

    const TORCHRUN: [(&str, &str); 7] = [
        ("RANK", "3"),
        ("WORLD_SIZE", "4"),
        ("LOCAL_RANK", "1"),
        ("MASTER_ADDR", "10.0.0.1"),
        ("MASTER_PORT", "29500"),
        ("TORCHELASTIC_USE_AGENT_STORE", "True"),
        ("TORCHELASTIC_RESTART_COUNT", "2"),
    ];
    const SRUN: [(&str, &str); 6] = [
        ("SLURM_PROCID", "1"),
        ("SLURM_STEP_NUM_TASKS", "8"),
        ("SLURM_STEP_ID", "0"),
        ("SLURM_LOCALID", "1"),
        ("SLURM_JOB_ID", "4711"),
        ("SLURM_STEP_NODELIST", "gpu[07-10]"),
    ];
    const MPIRUN: [(&str, &str); 5] = [
        ("OMPI_COMM_WORLD_RANK", "1"),
        ("OMPI_COMM_WORLD_SIZE", "2"),
        ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
        ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
        ("PMIX_NAMESPACE", "3925999617"),
    ];

    fn without<'a>(variables: &[(&'a str, &'a str)], name: &str) -> Vec<(&'a str, &'a str)> {
        variables.iter().copied().filter(|(known, _)| *known != name).collect()
    }

    #[test]
    fn pytorchs_variables_are_taken_as_torchrun_sets_them() {
        for dist in [Dist::Auto, Dist::Env] {
            let found = launch(dist, &TORCHRUN).unwrap().unwrap();
            assert_eq!((found.rank, found.size, found.local_rank, found.restarts), (3, 4, 1, 2));
            let wanted = Rendezvous { host: "10.0.0.1".into(), port: 29500, hosted: false, prefix: "fleetfoot".into() };
            assert_eq!(found.rendezvous, wanted);
            let plain = launch(dist, &TORCHRUN[..5]).unwrap().unwrap();
            assert!(plain.rendezvous.hosted && plain.restarts == 0);
            assert_eq!(launch(dist, &without(&TORCHRUN, "LOCAL_RANK")).unwrap().unwrap().local_rank, 0);
        }
        assert_eq!(launch(Dist::Off, &TORCHRUN), Ok(None));
    }

    #[test]
    fn a_variable_that_is_missing_is_named() {
        for name in ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"] {
            for variables in [
                without(&TORCHRUN[..5], name),
                TORCHRUN[..5].iter().map(|&(known, value)| (known, if known == name { " " } else { value })).collect(),
            ] {
                let error = launch(Dist::Auto, &variables).unwrap_err().to_string();
                assert!(error.starts_with(&format!("{name} isn't set")), "{error}");
            }
        }
        let error = launch(Dist::Env, &[]).unwrap_err().to_string();
        assert!(error.contains("--dist env: RANK isn't set") && error.contains("torchrun"), "{error}");
        assert!(launch(Dist::Slurm, &TORCHRUN).unwrap_err().to_string().contains("srun"));
        assert!(launch(Dist::Ompi, &SRUN).unwrap_err().to_string().contains("mpirun"));
        let error = launch(Dist::Slurm, &without(&SRUN, "SLURM_PROCID")).unwrap_err().to_string();
        assert!(error.starts_with("SLURM_PROCID isn't set"), "{error}");
        let error = launch(Dist::Ompi, &without(&MPIRUN, "OMPI_COMM_WORLD_SIZE")).unwrap_err().to_string();
        assert!(error.starts_with("OMPI_COMM_WORLD_SIZE isn't set"), "{error}");
    }

    #[test]
    fn nonsense_is_refused_with_what_is_wanted() {
        for (name, value, wanted) in [
            ("RANK", "4", "from 0 to 3"),
            ("RANK", "-1", "from 0 to 3"),
            ("RANK", "one", "from 0 to 3"),
            ("WORLD_SIZE", "0", "from 1 to 65536"),
            ("MASTER_PORT", "70000", "from 1 to 65535"),
            ("LOCAL_RANK", "9", "from 0 to 3"),
            ("TORCHELASTIC_RESTART_COUNT", "x", "at least 0"),
        ] {
            let mut variables = without(&TORCHRUN, name);
            variables.push((name, value));
            let error = launch(Dist::Auto, &variables).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name}={value}: ")) && error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn slurms_and_open_mpis_variables_are_mapped() {
        for dist in [Dist::Auto, Dist::Slurm] {
            let found = launch(dist, &SRUN).unwrap().unwrap();
            assert_eq!((found.rank, found.size, found.local_rank), (1, 8, 1));
            assert_eq!(found.rendezvous.host, "gpu07");
            assert!(found.rendezvous.hosted && (15_000..25_000).contains(&found.rendezvous.port));
            assert_eq!(launch(dist, &SRUN).unwrap().unwrap(), found, "all ranks find the same port");
        }
        let named = [&SRUN[..], &[("MASTER_ADDR", "10.1.1.1"), ("MASTER_PORT", "4000")]].concat();
        let found = launch(Dist::Auto, &named).unwrap().unwrap();
        assert_eq!((found.rendezvous.host.as_str(), found.rendezvous.port), ("10.1.1.1", 4000));
        let found = launch(Dist::Auto, &MPIRUN).unwrap().unwrap();
        assert_eq!((found.rank, found.size, found.rendezvous.host.as_str()), (1, 2, "127.0.0.1"));
        let both = [&MPIRUN[..], &SRUN[..]].concat();
        assert_eq!(launch(Dist::Auto, &both).unwrap().unwrap().size, 2, "mpirun's, where srun started it");
        let mut apart = without(&MPIRUN, "OMPI_COMM_WORLD_LOCAL_SIZE");
        apart.push(("OMPI_COMM_WORLD_LOCAL_SIZE", "1"));
        let error = launch(Dist::Auto, &apart).unwrap_err().to_string();
        assert!(error.starts_with("MASTER_ADDR isn't set"), "{error}");
    }

    #[test]
    fn who_is_alone_learns_alone() {
        assert_eq!(launch(Dist::Auto, &[]), Ok(None));
        // A batch script of Slurm's is no step of it; a job of one task is alone.
        assert_eq!(launch(Dist::Auto, &without(&SRUN, "SLURM_STEP_ID")), Ok(None));
        let mut one = without(&SRUN, "SLURM_STEP_NUM_TASKS");
        one.push(("SLURM_STEP_NUM_TASKS", "1"));
        assert_eq!(launch(Dist::Auto, &one), Ok(None));
        let one = [("RANK", "0"), ("WORLD_SIZE", "1"), ("MASTER_ADDR", "localhost"), ("MASTER_PORT", "29500")];
        assert_eq!(launch(Dist::Auto, &one), Ok(None));
    }

    #[test]
    fn the_first_host_of_a_list_is_found() {
        for (list, host) in [
            ("node3", Some("node3")),
            ("a1,b2", Some("a1")),
            ("gpu[07-10,12]", Some("gpu07")),
            ("rack[2-3]node[08-11,20]-ib,login", Some("rack2node08-ib")),
            ("n[5]", Some("n5")),
            ("gpu[07", None),
            ("", None),
        ] {
            assert_eq!(first_host(list).as_deref(), host, "{list}");
        }
    }

    #[test]
    fn ways_to_launch_are_read_as_they_are_written() {
        for dist in Dist::ALL {
            assert_eq!(dist.to_string().parse(), Ok(dist));
        }
        assert!("mpi".parse::<Dist>().unwrap_err().contains("ompi"));
    }
}
