//! The private folder of a module, which one run at a time works in. It outlives the run: the program keeps there the providers
//! that it fetched, and a state that it could not save elsewhere.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{FlockOperation, flock};
use serde::Deserialize;

use super::{Failure, Module, commands::Purpose, file_of, holders, variables};
use crate::{durable, process::Files};

/// The file that the program leaves where it could not save a state.
const UNSAVED: &str = "errored.tfstate";

/// The state of a stand-in, and the file that says so: what it says of the backend takes the place of what the module says
/// ("Override Files" of Terraform's documentation; OpenTofu's are the same).
const OWN_STATE: &str = "drill.tfstate";
const OVERRIDE: &str = "backstay_override.tf.json";

/// The plan by which something is made, while it is made, or after a run of which no state tells all that it made.
const PLAN: &str = "plan";

/// What of that plan was found in a state already, as a list of addresses.
const ACCOUNTED: &str = "accounted.json";

/// What the run under way prints, and what it says of errors.
const PRINTED: &str = "printed";
const SAID: &str = "said";

/// Plans that change nothing yet, and the one that removes.
const LOOK: &str = "look";
const PLANNED: &str = "planned";
const REMOVAL: &str = "removal";

/// The largest description of a backend, bytes.
const LARGEST: u64 = 1 << 20;

/// The folder, while it is ours.
#[derive(Clone, Debug)]
pub(super) struct Workshop {
    folder: PathBuf,
    lock: Arc<Lock>,
    /// Whether it is a stand-in's, whose state is a file in it.
    is_stand_ins: bool,
}

/// Keeps everybody else out of a folder.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a program that another thread just starts may hold it open for a moment.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// What `init` writes of the module's backend into the data folder.
#[derive(Deserialize)]
struct Initialised {
    backend: Option<Backend>,
}

#[derive(Deserialize)]
struct Backend {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    config: serde_json::Value,
}

impl Workshop {
    /// Takes the folder of `module`, and writes the module into it.
    pub(super) fn open(module: &Module) -> Result<Self, Failure> {
        let folder = folder_of(module);
        let failed = |error| Failure::Io(folder.clone(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
        // To be read as well: it is a program's standard input.
        let lock = private().read(true).truncate(false).open(folder.join("lock")).map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let lock = folder.join("lock");
                return Err(Failure::Busy { holders: holders::of(&lock), lock });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        let unsaved = folder.join(UNSAVED);
        if unsaved.exists() {
            return Err(Failure::Unsaved(unsaved));
        }
        let is_stand_ins = module.stands_for.is_some();
        let workshop = Self { folder: folder.clone(), lock: Arc::new(Lock(lock)), is_stand_ins };
        workshop.fill(module).map_err(failed)?;
        Ok(workshop)
    }

    fn fill(&self, module: &Module) -> io::Result<()> {
        let used = file_of(&module.body);
        let other = if used == "main.tf" { "main.tf.json" } else { "main.tf" };
        // The program reads all of the folder: a module of before must not be part of this one.
        match fs::remove_file(self.path(other)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.write(used, &module.body)?;
        if module.stands_for.is_some() {
            let local = serde_json::json!({ "terraform": { "backend": { "local": { "path": self.path(OWN_STATE) } } } });
            self.write(OVERRIDE, &local.to_string())?;
        }
        self.write("terraform.tfvars.json", &variables(&module.declared.variables))
    }

    fn write(&self, name: &str, content: &str) -> io::Result<()> {
        private().truncate(true).open(self.path(name))?.write_all(content.as_bytes())
    }

    /// The files of a run: what it prints, and the lock, which so holds as long as the run goes on, whatever becomes of us.
    pub(super) fn files(&self) -> Result<Files, Failure> {
        let empty = |name: &str| {
            let path = self.path(name);
            private().read(true).truncate(true).open(&path).map_err(|error| Failure::Io(path, error))
        };
        let input = self.lock.0.try_clone().map_err(|error| Failure::Io(self.path("lock"), error))?;
        Ok(Files { input, printed: empty(PRINTED)?, said: empty(SAID)? })
    }

    /// Removes what a run printed that has ended: it may hold secrets.
    pub(super) fn clear_files(&self) -> Result<(), Failure> {
        self.remove(&[PRINTED, SAID])
    }

    /// Where it is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The program's own data.
    pub(super) fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Whether the state of a stand-in is the file that is meant for it, by what `init` wrote of its backend.
    pub(super) fn has_state_of_its_own(&self) -> Result<bool, Failure> {
        let own = self.path(OWN_STATE);
        Ok(self.backend()?.is_some_and(|backend| {
            let path = backend.config.get("path").and_then(serde_json::Value::as_str);
            backend.kind == "local" && path.is_some_and(|path| Path::new(path) == own)
        }))
    }

    /// The plan of a run that makes something, and was not seen to have saved its state.
    pub(super) fn open_plan(&self) -> Option<PathBuf> {
        Some(self.path(PLAN)).filter(|plan| plan.exists())
    }

    /// Of that plan nothing is left to be looked for.
    pub(super) fn close_plan(&self) -> Result<(), Failure> {
        self.remove(&[PLAN, ACCOUNTED])
    }

    /// What of that plan was found in a state, now or before.
    pub(super) fn account(&self, found: BTreeSet<String>) -> Result<BTreeSet<String>, Failure> {
        let path = self.path(ACCOUNTED);
        let failed = |error| Failure::Io(path.clone(), error);
        let known: BTreeSet<String> = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            text => serde_json::from_slice(&text.map_err(failed)?).map_err(|error| failed(error.into()))?,
        };
        let all: BTreeSet<String> = known.iter().cloned().chain(found).collect();
        if all != known {
            durable::write_json(&path, &all).map_err(failed)?;
        }
        Ok(all)
    }

    /// Where a plan is written: never over the one of a run that was cut off.
    pub(super) fn planned(&self, purpose: Purpose) -> PathBuf {
        self.path(match purpose {
            Purpose::Look => LOOK,
            Purpose::Make => PLANNED,
            Purpose::Remove => REMOVAL,
        })
    }

    /// The plan that is applied from now on: it is there also when the host fails before the run has saved anything.
    pub(super) fn begin(&self, purpose: Purpose) -> Result<PathBuf, Failure> {
        let planned = self.planned(purpose);
        if purpose != Purpose::Make {
            return Ok(planned);
        }
        // What was found of another one, which a person removed.
        self.remove(&[ACCOUNTED])?;
        let open = self.path(PLAN);
        self.open_durably(&planned, &open).map_err(|error| Failure::Io(planned, error))?;
        Ok(open)
    }

    fn open_durably(&self, planned: &Path, open: &Path) -> io::Result<()> {
        File::open(planned)?.sync_all()?;
        fs::rename(planned, open)?;
        // The folder may be as new as the plan, and so may those be that it is in: the fleet's, the modules', and the state's.
        let mut above = self.folder.ancestors().take(4).filter(|folder| !folder.as_os_str().is_empty());
        above.try_for_each(|folder| File::open(folder)?.sync_all())
    }

    /// Whether a run that ended by itself, and badly, is known to have saved what it made: a full disk cuts the state of a stand-in
    /// short, or leaves none. Of others the backend knows.
    pub(super) fn has_saved(&self) -> bool {
        if !self.is_stand_ins {
            return true;
        }
        let state = File::open(self.path(OWN_STATE)).ok();
        let state =
            state.map(|file| serde_json::from_reader::<_, serde_json::Value>(io::BufReader::new(file)));
        matches!(state, Some(Ok(_))) && !self.path(UNSAVED).exists()
    }

    /// Removes the state of a stand-in of which nothing is left.
    pub(super) fn forget(&self) -> Result<(), Failure> {
        let backup = format!("{OWN_STATE}.backup");
        self.remove(&[OWN_STATE, backup.as_str(), LOOK, PLANNED, REMOVAL, PRINTED, SAID])
    }

    /// Removes files of it that are there.
    fn remove(&self, names: &[&str]) -> Result<(), Failure> {
        for name in names {
            let path = self.path(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Failure::Io(path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the module's state outlives this folder, by what `init` wrote of its backend.
    pub(super) fn has_backend(&self) -> Result<bool, Failure> {
        Ok(self.backend()?.is_some_and(|backend| outlives(&backend, &self.folder)))
    }

    fn backend(&self) -> Result<Option<Backend>, Failure> {
        let path = self.data().join("terraform.tfstate");
        let failed = |error| Failure::Io(path.clone(), error);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        let mut text = String::new();
        file.take(LARGEST).read_to_string(&mut text).map_err(failed)?;
        let told: Initialised = serde_json::from_str(&text).map_err(|error| failed(error.into()))?;
        Ok(told.backend)
    }
}

/// Whether anything was ever begun of a stand-in that is not known to be gone.
pub(super) fn was_begun(module: &Module) -> bool {
    [OWN_STATE, PLAN, UNSAVED].iter().any(|name| folder_of(module).join(name).exists())
}

fn folder_of(module: &Module) -> PathBuf {
    module.folder.join(module.fleet.as_str()).join(module.vm.as_str())
}

fn outlives(backend: &Backend, folder: &Path) -> bool {
    match backend.kind.as_str() {
        "local" => {
            let path = backend.config.get("path").and_then(serde_json::Value::as_str).map(Path::new);
            path.is_some_and(|path| path.is_absolute() && !path.starts_with(folder))
        }
        // It forgets everything with the run.
        "inmem" => false,
        _ => true,
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::provisioners::terraform) fn stand_in(folder: &Path) -> Module {
        Module {
            fleet: "pavroto".parse().unwrap(),
            vm: "drill-site-web".parse().unwrap(),
            stands_for: Some("web".parse().unwrap()),
            declared: crate::spec::Terraform {
                program: crate::spec::TerraformProgram::Terraform,
                variables: Default::default(),
                state: crate::spec::TerraformState::Local,
            },
            body: "{}".to_owned(),
            folder: folder.to_owned(),
        }
    }

    #[test]
    fn no_other_plan_takes_the_place_of_one_that_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let module = stand_in(folder.path());
        let workshop = Workshop::open(&module).unwrap();
        assert!(!was_begun(&module));
        for purpose in [Purpose::Look, Purpose::Make, Purpose::Remove] {
            fs::write(workshop.planned(purpose), "").unwrap();
        }
        assert!(workshop.open_plan().is_none(), "nothing is made yet");
        workshop.begin(Purpose::Remove).unwrap();
        assert!(workshop.open_plan().is_none());
        let open = workshop.begin(Purpose::Make).unwrap();
        assert_eq!(workshop.open_plan(), Some(open.clone()));
        assert!(was_begun(&module));
        workshop.forget().unwrap();
        assert_eq!(workshop.open_plan(), Some(open), "a look and a removal leave it");
        assert!(!workshop.planned(Purpose::Remove).exists());
    }

    #[test]
    fn whoever_has_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let module = stand_in(folder.path());
        let workshop = Workshop::open(&module).unwrap();
        let busy = Workshop::open(&module).unwrap_err().to_string();
        assert!(busy.contains(&format!("(process {})", std::process::id())), "{busy}");

        // A program that has the lock for its standard input, and whose controller is gone.
        let input = workshop.files().unwrap().input;
        let mut program = std::process::Command::new("sleep").arg("60").stdin(input).spawn().unwrap();
        let lock = workshop.path("lock");
        let named = format!("sleep (process {})", program.id());
        let holders = holders::of(&lock);
        program.kill().unwrap();
        program.wait().unwrap();
        assert!(holders.contains(&named), "{holders:?}");
        drop(workshop);
        assert_eq!(holders::of(&lock), Vec::<String>::new());
    }

    #[test]
    fn a_state_that_a_full_disk_cut_short_is_not_saved() {
        let folder = tempfile::tempdir().unwrap();
        let module = stand_in(folder.path());
        let workshop = Workshop::open(&module).unwrap();
        assert!(!workshop.has_saved());
        for cut in ["", "{\"version\": 4, "] {
            fs::write(workshop.path(OWN_STATE), cut).unwrap();
            assert!(!workshop.has_saved(), "{cut}");
        }
        fs::write(workshop.path(OWN_STATE), "{\"version\": 4}").unwrap();
        assert!(workshop.has_saved());
        fs::remove_file(workshop.path(OWN_STATE)).unwrap();
        fs::write(workshop.path(UNSAVED), "{}").unwrap();
        assert!(was_begun(&module) && !workshop.has_saved());
    }

    #[test]
    fn a_state_outlives_its_folder_only_elsewhere() {
        let backend = |text: &str| serde_json::from_str::<Backend>(text).unwrap();
        let folder = Path::new("/var/lib/backstay/terraform/aws/web");
        for kept in [
            r#"{"type": "s3", "config": {"bucket": "states"}}"#,
            r#"{"type": "cloud", "config": {}}"#,
            r#"{"type": "local", "config": {"path": "/srv/states/web.tfstate"}}"#,
        ] {
            assert!(outlives(&backend(kept), folder), "{kept}");
        }
        for lost in [
            r#"{"type": "local", "config": {"path": null}}"#,
            r#"{"type": "local", "config": {"path": "web.tfstate"}}"#,
            r#"{"type": "local", "config": {"path": "/var/lib/backstay/terraform/aws/web/s"}}"#,
            r#"{"type": "local"}"#,
            r#"{"type": "inmem"}"#,
        ] {
            assert!(!outlives(&backend(lost), folder), "{lost}");
        }
    }
}
