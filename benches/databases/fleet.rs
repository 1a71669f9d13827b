//! Backstay, as a user runs it: the built program on a fleet that `backstay init` made.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use jiff::Timestamp;

use crate::{
    Stored,
    measure::{Took, measure, run},
    table::size_of,
};

const POLICIES: &str = "\
[policy.with-log]
rpo = \"24h\"
full = \"0 1 * * 0\"
incremental = \"0 1 * * 1-6\"
log = { every = \"15m\" }

[policy.without-log]
rpo = \"24h\"
full = \"0 1 * * 0\"
incremental = \"0 1 * * 1-6\"
";

pub struct Fleet(PathBuf);

impl Fleet {
    /// A fleet that may read a data folder, with a backup of its server, `shop`, in its first store.
    pub fn new(folder: PathBuf, readable: &Path, policy: &str, source: &str) -> Self {
        let program = env!("CARGO_BIN_EXE_backstay");
        run(Command::new(program).arg("init").arg(&folder).stdout(Stdio::null()).stderr(Stdio::null()));
        let fleet = Self(folder);
        let config = fs::read_to_string(fleet.config()).expect("init wrote it");
        let allowed = format!("\nread = [\"{}\", ", readable.display());
        fs::write(fleet.config(), config.replace("\nread = [", &allowed)).expect("it is written");
        let declared =
            format!("{POLICIES}\n[backup.shop]\npolicy = \"{policy}\"\nstores = [\"primary\"]\n{source}\n");
        fs::write(fleet.0.join("infra/backup/databases.toml"), declared).expect("it is written");
        fs::create_dir_all(fleet.0.join("restored")).expect("the folder is made");
        fleet.git(&["add", "--all"]);
        let author = ["-c", "user.name=Bench", "-c", "user.email=bench@example.org"];
        fleet.git(&[&author[..], &["commit", "--quiet", "-m", "Declare the databases"]].concat());
        fleet
    }

    /// Makes an artifact now.
    pub fn backup(&self, kind: &str) -> Stored {
        let store = self.0.join("stores/primary");
        let before = size_of(&store);
        let took = self.backstay(&["backup", "shop", "--kind", kind, "--reason", "bench"]);
        Stored { took, bytes: size_of(&store) - before }
    }

    /// Restores what was there at a moment.
    pub fn restore(&self, at: Option<Timestamp>, to: &[&str]) -> Took {
        let at = at.map(|at| at.to_string());
        let at: Vec<&str> = at.iter().flat_map(|at| ["--at", at]).collect();
        self.backstay(&[&["restore", "shop"][..], &at, to].concat())
    }

    /// Restores what was there at a moment to a folder, which is returned.
    pub fn restore_to_folder(&self, at: Timestamp) -> (Took, PathBuf) {
        let folder = self.0.join("restored/shop");
        let took = self.restore(Some(at), &["--to", &format!("{}/", folder.display())]);
        (took, folder)
    }

    fn backstay(&self, arguments: &[&str]) -> Took {
        measure(|| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
            command.args(arguments).arg("--quiet").arg("--config").arg(self.config()).stdout(Stdio::null());
            vec![command.spawn().expect("the program is built")]
        })
    }

    fn config(&self) -> PathBuf {
        self.0.join("backstay.toml")
    }

    fn git(&self, arguments: &[&str]) {
        run(Command::new("git").arg("-C").arg(self.0.join("infra")).args(arguments));
    }
}
