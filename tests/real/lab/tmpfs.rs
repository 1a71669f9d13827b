//! A small file system of its own, to be filled and to be made read-only.

use std::{path::Path, process::Command};

use tempfile::TempDir;

use super::run;

/// A mounted tmpfs; unmounted when dropped. Mounting needs root, or `sudo` without a password.
pub struct Tmpfs(TempDir);

impl Tmpfs {
    /// Mounts one of `size` bytes, which belongs to the tests' user.
    pub fn mount(size: u64) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
        let options =
            format!("size={size},mode=0700,uid={},gid={},nosuid,nodev", user.as_raw(), group.as_raw());
        run(privileged("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()));
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Makes it larger: so many bytes in all.
    pub fn grow(&self, size: u64) {
        run(privileged("mount").args(["-o", &format!("remount,size={size}")]).arg(self.path()));
    }

    /// Makes it read-only.
    pub fn forbid_writing(&self) {
        run(privileged("mount").args(["-o", "remount,ro"]).arg(self.path()));
    }

    /// Takes it away: an empty folder is left in its place.
    pub fn unmount(&self) {
        run(privileged("umount").arg("--lazy").arg(self.path()));
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = privileged("umount").arg("--lazy").arg(self.path()).output();
    }
}

pub fn privileged(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}
