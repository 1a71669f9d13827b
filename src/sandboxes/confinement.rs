//! As whom the programs of a sandbox run, and how apart from the rest of the host. Never outliving this process.
//!
//! ```text
//! unshare --net | setpriv (the user, and its end with ours) | bwrap (the walls) | the program
//! ```

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    IsolationMode, SandboxError,
    home::{HINT, Home},
    server::find,
};
use crate::{artifact::drill::Isolation, process::Program};

/// How long a program may take that only looks.
const SHORT: Duration = Duration::from_secs(60);

/// What every system has its programs in, and what they need to know of it: seen and not written to. Nothing of it is secret; what
/// there is not is left out.
const SYSTEM: [&str; 16] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/opt",
    "/etc/alternatives",
    "/etc/group",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/timezone",
];

/// The user that the programs of a sandbox run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// This process's own, which has no rights.
    Ourselves,
    /// Another one, since this process is root.
    Other { user: u32, group: u32 },
}

/// What stands between the programs of a sandbox and the host.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Walls {
    Bubblewrap { bwrap: PathBuf },
    Network { unshare: PathBuf },
    None,
}

/// What a program gets when this process ends, however that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// It has started nothing that would stay.
    Kill,
    /// It ends what it has started, at once.
    Quit,
}

/// As whom the programs of a sandbox run, and behind which walls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Confinement {
    owner: Owner,
    walls: Walls,
    network: Network,
    setpriv: PathBuf,
}

/// Which network programs behind walls see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Network {
    /// One with nothing in it.
    Own,
    /// Of a server that can be reached in no other way.
    OfTheHost,
}

impl Confinement {
    /// The first of `owners` that this host has, where this process is root, behind the walls that `mode` asks for.
    pub(super) async fn of(owners: &[&str], mode: IsolationMode) -> Result<Self, SandboxError> {
        let (owner, setpriv) = (Owner::of(owners)?, find(&["setpriv"])?);
        let open = Self { owner, walls: Walls::None, network: Network::Own, setpriv };
        match mode {
            IsolationMode::None => Ok(open),
            IsolationMode::Bubblewrap => open.behind_bubblewrap().await.map_err(|why| {
                SandboxError::cannot(format!(
                    "drills.isolation is \"bubblewrap\", which does not work here: {why}; install it (Debian: bubblewrap) and let \
                     this host's users make namespaces, or set it to \"auto\""
                ))
            }),
            IsolationMode::Auto => match open.behind_bubblewrap().await {
                Ok(confined) => Ok(confined),
                Err(why) => {
                    tracing::warn!(%why, "sandboxes are not walled in by bubblewrap");
                    Ok(open.without_network().await.unwrap_or(open))
                }
            },
        }
    }

    /// The same with the host's network: for a server that can be reached in no other way.
    pub(super) fn with_network(self) -> Self {
        let walls = match self.walls {
            walls @ Walls::Bubblewrap { .. } => walls,
            Walls::Network { .. } | Walls::None => Walls::None,
        };
        Self { walls, network: Network::OfTheHost, ..self }
    }

    /// What stands between the programs and the host.
    pub(super) fn isolation(&self) -> Isolation {
        match (&self.walls, self.network) {
            (Walls::Bubblewrap { .. }, Network::Own) => Isolation::Bubblewrap,
            (Walls::Bubblewrap { .. }, Network::OfTheHost) => Isolation::Files,
            (Walls::Network { .. }, _) => Isolation::Network,
            (Walls::None, _) => Isolation::None,
        }
    }

    async fn behind_bubblewrap(&self) -> Result<Self, String> {
        let bwrap = find(&["bwrap"]).map_err(|error| error.to_string())?;
        let walled = Self { walls: Walls::Bubblewrap { bwrap }, ..self.clone() };
        let tried =
            walled.program_in(Path::new("/"), Path::new("/usr/bin/true"), Signal::Kill, Within::Nothing);
        let tried = tried.timeout(SHORT).output(b"", 4096).await;
        tried.map(|_| walled).map_err(|error| error.to_string())
    }

    /// The same without a network, where this process may take it away.
    async fn without_network(&self) -> Option<Self> {
        let unshare = find(&["unshare"]).ok()?;
        let walled = Self { walls: Walls::Network { unshare }, ..self.clone() };
        let tried =
            walled.program_in(Path::new("/"), Path::new("/usr/bin/true"), Signal::Kill, Within::Nothing);
        tried.timeout(SHORT).output(b"", 4096).await.ok().map(|_| walled)
    }

    /// Takes over the folder, and makes sure that the owner reaches it.
    pub(super) async fn take(&self, home: &Home) -> Result<(), SandboxError> {
        let Owner::Other { user, group } = self.owner else { return Ok(()) };
        let failed = |error| SandboxError::cannot(format!("{}: {error}", home.path().display()));
        home.give(user, group).map_err(failed)?;
        let look = self.program(home, Path::new("/usr/bin/test"), Signal::Kill);
        let look = look.arguments(["-w".into(), home.join(".")]);
        look.timeout(SHORT).output(b"", 4096).await.map(drop).map_err(|_| {
            SandboxError::cannot(format!(
                "the user {user}, that the sandbox's programs run as, can't reach {}; {HINT}",
                home.path().display()
            ))
        })
    }

    /// The program at `path`, which sees and writes `home` and gets `signal` when this process ends. Arguments that are added are
    /// its own.
    pub(super) fn program(&self, home: &Home, path: &Path, signal: Signal) -> Program {
        self.program_in(home.path(), path, signal, Within::Home)
    }

    fn program_in(&self, home: &Path, path: &Path, signal: Signal, within: Within) -> Program {
        let mut words: Vec<OsString> = Vec::new();
        if let Walls::Network { unshare } = &self.walls {
            words.extend([OsString::from(unshare), "--net".into(), "--".into()]);
        }
        words.push(self.setpriv.clone().into());
        words.extend(self.owner.limits(signal));
        if let Walls::Bubblewrap { bwrap } = &self.walls {
            words.push(bwrap.into());
            words.extend(walls(home, path, within, self.network));
        }
        words.push(path.into());
        let called = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let mut words = words.into_iter();
        let first = words.next().unwrap_or_default();
        let program = Program::new(PathBuf::from(first)).called(called).arguments(words).folder(home);
        // What this process calls its own is not there, or no affair of theirs.
        program.variable("LC_ALL", "C.UTF-8").variable("HOME", "/nonexistent").variable("TMPDIR", "/tmp")
    }
}

/// What a program behind walls sees beside the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    Home,
    Nothing,
}

/// The arguments of bubblewrap, up to the program.
fn walls(home: &Path, program: &Path, within: Within, network: Network) -> Vec<OsString> {
    let mut words: Vec<OsString> = [
        "--unshare-all",
        "--die-with-parent",
        "--new-session",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--tmpfs",
        "/tmp",
    ]
    .map(OsString::from)
    .to_vec();
    for place in SYSTEM {
        words.extend(["--ro-bind-try", place, place].map(OsString::from));
    }
    let is_of_system = SYSTEM.iter().any(|place| program.starts_with(place));
    if !is_of_system {
        words.extend([OsString::from("--ro-bind"), program.into(), program.into()]);
    }
    if within == Within::Home {
        words.extend([OsString::from("--bind"), home.into(), home.into()]);
        words.extend([OsString::from("--chdir"), home.into()]);
    }
    if network == Network::OfTheHost {
        words.push("--share-net".into());
    }
    words.push("--".into());
    words
}

impl Owner {
    fn of(names: &[&str]) -> Result<Self, SandboxError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Owner::Ourselves);
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let found = names.iter().find_map(|name| user_in(&users, name));
        found.map(|(user, group)| Owner::Other { user, group }).ok_or_else(|| {
            SandboxError::cannot(format!(
                "no user of this host may run a sandbox's programs: there is none of {}",
                names.join(", ")
            ))
        })
    }

    /// The arguments of `setpriv`, up to the program.
    fn limits(self, signal: Signal) -> Vec<OsString> {
        let mut words: Vec<OsString> =
            ["--no-new-privs", "--pdeathsig", signal.name()].map(OsString::from).to_vec();
        if let Owner::Other { user, group } = self {
            words.extend([format!("--reuid={user}"), format!("--regid={group}")].map(OsString::from));
            words.push("--clear-groups".into());
        }
        words.push("--".into());
        words
    }
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Signal::Kill => "KILL",
            Signal::Quit => "QUIT",
        }
    }
}

/// The number of a user and of its group, in the text of `/etc/passwd`.
fn user_in(users: &str, name: &str) -> Option<(u32, u32)> {
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    let (user, group): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    (user != 0).then_some((user, group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_rights_is_found_and_root_is_none() {
        let users =
            "root:x:0:0:root:/root:/bin/bash\nmysql:x:104:111::/nonexistent:/bin/false\ntoor:x:0:0::/:\n";
        assert_eq!(user_in(users, "mysql"), Some((104, 111)));
        assert_eq!(user_in(users, "root"), None);
        assert_eq!(user_in(users, "toor"), None);
        assert_eq!(user_in(users, "mys"), None);
    }

    #[test]
    fn behind_walls_a_program_sees_the_system_itself_and_its_folder_alone() {
        let shown = |program: &str, within| -> Vec<String> {
            let words = walls(Path::new("/srv/boxes/drill-1"), Path::new(program), within, Network::Own);
            let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
            assert!(words.starts_with(&["--unshare-all".into(), "--die-with-parent".into()]), "{words:?}");
            assert!(!words.contains(&"--share-net".to_owned()), "{words:?}");
            let bound = words.windows(2).filter(|pair| pair[0].contains("bind"));
            let bound = bound.map(|pair| format!("{} {}", pair[0], pair[1]));
            bound.filter(|it| !it.starts_with("--ro-bind-try")).collect()
        };
        assert_eq!(shown("/usr/sbin/mariadbd", Within::Home), ["--bind /srv/boxes/drill-1"]);
        assert_eq!(shown("/usr/bin/true", Within::Nothing), [""; 0]);
        let own = shown("/srv/checks/balance", Within::Home);
        assert_eq!(own, ["--ro-bind /srv/checks/balance", "--bind /srv/boxes/drill-1"]);
        for secret in ["/", "/etc", "/root", "/home", "/var", "/run", "/srv"] {
            assert!(!SYSTEM.contains(&secret), "{secret}");
        }
    }
}
