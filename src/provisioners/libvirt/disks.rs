//! The files of a machine: its disk over the base image, and the seed with its user data. Both are made aside and put in place
//! without ever taking another file's.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{
    process::{self, ProcessError, Program},
    provisioners::ProvisionError,
    spec::{
        Libvirt,
        names::{FleetName, VmName},
    },
};

/// The longest that making one file may take.
const LONGEST: Duration = Duration::from_secs(300);

/// The most that `qemu-img info` may print, bytes.
const MOST: usize = 1 << 20;

/// What writes the file system of a seed, the first that is there.
const WRITERS: [&str; 3] = ["genisoimage", "xorrisofs", "mkisofs"];

/// How long a call may take that a process left behind which was killed, and how often it is looked for.
const LEFT_BEHIND: Duration = Duration::from_secs(150);
const PACE: Duration = Duration::from_millis(200);

/// Where the files of a machine are. The names hold the fleet and the machine, so that they are no other's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Disks {
    pub(super) disk: PathBuf,
    pub(super) seed: PathBuf,
    folder: PathBuf,
    /// What the names of folders begin with in which they are made.
    aside: String,
}

/// A base image, as `qemu-img info` tells of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Image {
    format: String,
    virtual_size: u64,
}

impl Disks {
    pub(super) fn of(fleet: &FleetName, vm: &VmName, folder: &Path) -> Self {
        // No name holds an `@`.
        let file = |kind: &str| folder.join(format!("{fleet}@{vm}.backstay{kind}"));
        let aside = format!(".backstay-{fleet}@{vm}@");
        Self { disk: file(".qcow2"), seed: file("-seed.iso"), folder: folder.to_owned(), aside }
    }

    /// Those that are there.
    pub(super) fn there(&self) -> Result<Vec<&Path>, ProvisionError> {
        let mut there = Vec::new();
        for path in [&self.disk, &self.seed] {
            match path.symlink_metadata() {
                Ok(_) => there.push(path.as_path()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let path = path.display();
                    return Err(ProvisionError::stalled(format!(
                        "failed to look for {path}: {error}; let whoever runs Backstay read its folder"
                    )));
                }
            }
        }
        Ok(there)
    }

    /// Checks that a disk can be made over the base image.
    pub(super) async fn check_image(&self, libvirt: &Libvirt) -> Result<(), ProvisionError> {
        let image = libvirt.image.display();
        let info =
            qemu_img()?.arguments(["info", "--output=json", "-U", "-f", "qcow2"]).argument(&libvirt.image);
        let printed = info.timeout(LONGEST).output(&[], MOST).await;
        let printed = printed.map_err(|error| {
            ProvisionError::stalled(format!(
                "failed to read the base image {image}: {error}; it must be a qcow2 image of this host"
            ))
        })?;
        let found: Image = serde_json::from_slice(&printed).map_err(|error| {
            ProvisionError::stalled(format!("failed to read what qemu-img tells of {image}: {error}"))
        })?;
        match libvirt.disk {
            _ if found.format != "qcow2" => Err(ProvisionError::stalled(format!(
                "failed to use the base image {image}: it is of the format {}; convert it: qemu-img convert -O qcow2",
                found.format.escape_debug()
            ))),
            Some(size) if size < found.virtual_size => Err(ProvisionError::stalled(format!(
                "failed to use the base image {image}: it has {} bytes, and the declared disk has {size}; declare a disk of that \
                 size or a larger one",
                found.virtual_size
            ))),
            _ => Ok(()),
        }
    }

    /// Makes the disk over the base image.
    pub(super) async fn make_disk(&self, libvirt: &Libvirt) -> Result<(), ProvisionError> {
        let aside = self.aside()?;
        let made = aside.path().join("disk");
        let mut create = qemu_img()?.arguments(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]);
        create = create.argument(&libvirt.image).argument(&made).timeout(LONGEST).discard_output();
        if let Some(size) = libvirt.disk {
            create = create.argument(size.to_string());
        }
        let done = async { create.start()?.finish().await };
        done.await.map_err(|error| unmade("the disk", &self.disk, &error))?;
        place(&made, &self.disk)
    }

    /// Makes the seed: the NoCloud data source of cloud-init on a file system labelled `cidata`.
    pub(super) async fn make_seed(
        &self,
        instance: &str,
        hostname: &str,
        user_data: &str,
    ) -> Result<(), ProvisionError> {
        let aside = self.aside()?;
        let meta_data =
            serde_json::json!({ "instance-id": instance, "local-hostname": hostname }).to_string();
        for (name, content) in [("user-data", user_data), ("meta-data", &meta_data)] {
            private(&aside.path().join(name), content).map_err(|error| unwritten(&self.seed, &error))?;
        }
        let made = aside.path().join("seed");
        let writer = process::find(&WRITERS, &process::search_path()).map_err(|error| {
            ProvisionError::stalled(format!(
                "failed to make {}: {error} (Debian: genisoimage)",
                self.seed.display()
            ))
        })?;
        let program = Program::new(writer).folder(aside.path()).timeout(LONGEST).discard_output();
        let program =
            program.arguments(["-quiet", "-volid", "cidata", "-joliet", "-rock", "-output", "seed"]);
        let program = program.arguments(["user-data", "meta-data"]);
        let done = async { program.start()?.finish().await };
        done.await.map_err(|error| unmade("the seed", &self.seed, &error))?;
        place(&made, &self.seed)
    }

    /// Claims the machine for calls to its hypervisor, by a lock of its seed. Where it is the standard input of a program, it holds until
    /// that has ended, also where this process is killed before.
    pub(super) fn claim(&self) -> Result<File, ProvisionError> {
        self.lock().map_err(|error| self.busy(&error))
    }

    fn lock(&self) -> io::Result<File> {
        let seed = File::open(&self.seed)?;
        flock(&seed, FlockOperation::NonBlockingLockExclusive)?;
        Ok(seed)
    }

    fn busy(&self, error: &io::Error) -> ProvisionError {
        let seed = self.seed.display();
        ProvisionError::retry(format!(
            "failed to lock {seed}: {error}; another process makes or removes this machine"
        ))
    }

    /// Waits until no call to the hypervisor is under way that a process left behind which was killed: it could define what was just
    /// found not to be there.
    pub(super) async fn settle(&self) -> Result<(), ProvisionError> {
        let deadline = Instant::now() + LEFT_BEHIND;
        loop {
            match self.lock() {
                // It is not there, or is QEMU's user's, as that of a domain that was started.
                Err(busy) if busy.kind() != io::ErrorKind::WouldBlock => return Ok(()),
                Err(busy) if Instant::now() >= deadline => return Err(self.busy(&busy)),
                Err(_) => sleep(PACE).await,
                Ok(_) => return Ok(()),
            }
        }
    }

    /// Refuses a disk that a QEMU has open, also one that another hypervisor started: QEMU locks what it uses.
    pub(super) async fn must_be_unused(&self) -> Result<(), ProvisionError> {
        if !self.disk.exists() {
            return Ok(());
        }
        let program = qemu_img()?.arguments(["info", "--output=json"]).argument(&self.disk).timeout(LONGEST);
        match program.output(&[], MOST).await {
            Err(error) if error.to_string().contains("lock") => Err(ProvisionError::stalled(format!(
                "failed to remove {}: something has it open ({error}); where that is a domain of another hypervisor, remove it there",
                self.disk.display()
            ))),
            // One that can't be read is of no use to anybody.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Removes what is there of them, and what a process that was killed left of making them.
    pub(super) fn remove(&self) -> Result<Vec<PathBuf>, ProvisionError> {
        let failed = |path: &Path, error: io::Error| {
            let path = path.display();
            ProvisionError::stalled(format!(
                "failed to remove {path}: {error}; let whoever runs Backstay write to its folder"
            ))
        };
        let mut removed = Vec::new();
        for path in self.there()? {
            fs::remove_file(path).map_err(|error| failed(path, error))?;
            removed.push(path.to_owned());
        }
        for path in self.left_aside().map_err(|error| failed(&self.folder, error))? {
            fs::remove_dir_all(&path).map_err(|error| failed(&path, error))?;
            removed.push(path);
        }
        Ok(removed)
    }

    /// Folders in which something of this machine was made.
    fn left_aside(&self) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut left = Vec::new();
        for entry in entries {
            let entry = entry?;
            let is_ours = entry.file_name().to_string_lossy().starts_with(&self.aside);
            if is_ours && entry.file_type()?.is_dir() {
                left.push(entry.path());
            }
        }
        Ok(left)
    }

    /// A private folder on the same file system.
    fn aside(&self) -> Result<TempDir, ProvisionError> {
        let private = Permissions::from_mode(0o700);
        let made = tempfile::Builder::new().prefix(&self.aside).permissions(private).tempdir_in(&self.folder);
        made.map_err(|error| unwritten(&self.folder, &error))
    }
}

/// Whether two paths lead to one file, whatever they are called.
pub(super) fn same_file(path: &Path, other: &str) -> bool {
    let id = |path: &Path| path.metadata().ok().map(|file| (file.dev(), file.ino()));
    path == Path::new(other) || id(path).is_some_and(|known| id(Path::new(other)) == Some(known))
}

fn qemu_img() -> Result<Program, ProvisionError> {
    let found = process::find(&["qemu-img"], &process::search_path());
    let found = found.map_err(|error| ProvisionError::stalled(format!("{error} (Debian: qemu-utils)")))?;
    Ok(Program::new(found).variable("LC_ALL", "C"))
}

fn private(path: &Path, content: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content.as_bytes())
}

/// Puts a file in its place, for its owner only, if nothing is there.
fn place(made: &Path, path: &Path) -> Result<(), ProvisionError> {
    let placed = fs::set_permissions(made, Permissions::from_mode(0o600))
        .and_then(|()| Ok(renameat_with(CWD, made, CWD, path, RenameFlags::NOREPLACE)?));
    placed.map_err(|error| unwritten(path, &error))
}

fn unmade(what: &str, path: &Path, error: &ProcessError) -> ProvisionError {
    ProvisionError::stalled(format!("failed to make {what} {}: {error}", path.display()))
}

fn unwritten(path: &Path, error: &io::Error) -> ProvisionError {
    let path = path.display();
    ProvisionError::stalled(format!(
        "failed to write {path}: {error}; make room, and let whoever runs Backstay write there"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_machines_share_a_file() {
        let disks =
            |fleet: &str, vm: &str| Disks::of(&fleet.parse().unwrap(), &vm.parse().unwrap(), Path::new("/d"));
        assert_eq!(disks("a", "b").disk, Path::new("/d/a@b.backstay.qcow2"));
        assert_ne!(disks("a.b", "c").disk, disks("a", "b.c").disk);
    }

    #[tokio::test]
    async fn what_was_being_made_goes_with_the_machine_and_nobody_else_s() {
        let folder = tempfile::tempdir().unwrap();
        let disks = |vm: &str| Disks::of(&"a".parse().unwrap(), &vm.parse().unwrap(), folder.path());
        let left = disks("web").aside().unwrap().keep();
        fs::write(left.join("user-data"), "a key").unwrap();
        let others = disks("web-2").aside().unwrap();
        assert_eq!(disks("web").remove().unwrap(), std::slice::from_ref(&left));
        assert!(!left.exists() && others.path().exists());
        assert!(disks("web").remove().unwrap().is_empty());

        let disks = disks("web");
        disks.settle().await.unwrap();
        fs::write(&disks.seed, "").unwrap();
        let claim = disks.claim().unwrap();
        disks.claim().unwrap_err();
        let settled = disks.settle();
        tokio::pin!(settled);
        assert!(tokio::time::timeout(3 * PACE, &mut settled).await.is_err(), "a call is under way");
        drop(claim);
        settled.await.unwrap();
    }

    #[test]
    fn what_is_there_is_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let (made, taken) = (folder.path().join("made"), folder.path().join("taken"));
        fs::write(&made, "new").unwrap();
        fs::write(&taken, "old").unwrap();
        std::os::unix::fs::symlink(&taken, folder.path().join("link")).unwrap();
        assert!(same_file(&taken, &folder.path().join("link").display().to_string()));
        assert!(
            !same_file(&taken, &made.display().to_string()) && !same_file(Path::new("/none"), "/nothing")
        );
        assert!(place(&made, &taken).is_err());
        assert_eq!(fs::read(&taken).unwrap(), b"old");
        place(&made, &folder.path().join("free")).unwrap();
        let mode = folder.path().join("free").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
