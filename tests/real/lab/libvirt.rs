//! libvirt's daemon with QEMU in software: alone with its own folders. Its machines end with it.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

use super::Server;

/// The folders that a daemon of root's has fixed, which it gets in private here.
const FOLDERS: [(&str, &str); 5] = [
    ("etc", "/etc/libvirt"),
    ("lib", "/var/lib/libvirt"),
    ("run", "/run/libvirt"),
    ("cache", "/var/cache/libvirt"),
    ("log", "/var/log/libvirt"),
];

pub struct Hypervisor {
    folder: TempDir,
    server: Server,
}

impl Hypervisor {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let private = |name: &str| {
            fs::DirBuilder::new().mode(0o700).create(folder.path().join(name)).expect("a folder can be made");
        };
        FOLDERS.iter().for_each(|(name, _)| private(name));
        ["socket", "disks", "home"].into_iter().for_each(private);
        configure(folder.path());
        let mut server = Server::start(&mut daemon(folder.path()));
        let socket = folder.path().join("socket/libvirt-sock");
        server.wait_until("libvirtd listens", || socket.exists());
        let hypervisor = Self { folder, server };
        // Its first answer waits until it knows what QEMU can do.
        hypervisor.virsh(&["domcapabilities", "--virttype", "qemu"]);
        hypervisor
    }

    pub fn uri(&self) -> String {
        let mode = if rustix::process::geteuid().is_root() { "system" } else { "session" };
        format!("qemu+unix:///{mode}?socket={}", self.folder.path().join("socket/libvirt-sock").display())
    }

    /// Where disks are made.
    pub fn disks(&self) -> PathBuf {
        self.folder.path().join("disks")
    }

    /// What is there.
    pub fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.disks()).expect("the folder is readable");
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// What `virsh` prints; it must succeed.
    pub fn virsh(&self, arguments: &[&str]) -> String {
        let output = self.try_virsh(arguments);
        assert!(output.status.success(), "virsh {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn try_virsh(&self, arguments: &[&str]) -> Output {
        let mut virsh = Command::new("virsh");
        virsh.args(["-q", "-c", &self.uri()]).args(arguments).env("LC_ALL", "C").stdin(Stdio::null());
        virsh.output().expect("virsh starts (Debian: libvirt-clients)")
    }

    /// Kills the daemon; what it started goes on.
    pub fn kill(&mut self) {
        let _ = self.server.kill();
    }

    /// Starts the daemon again.
    pub fn restart(&mut self) {
        let socket = self.folder.path().join("socket/libvirt-sock");
        let _ = fs::remove_file(&socket);
        self.server = Server::start(&mut daemon(self.folder.path()));
        self.server.wait_until("libvirtd listens", || socket.exists());
    }
}

impl Drop for Hypervisor {
    /// Machines outlive the daemon: each must be ended by itself.
    fn drop(&mut self) {
        let listed = self.try_virsh(&["list", "--uuid"]);
        for domain in String::from_utf8_lossy(&listed.stdout).split_whitespace() {
            self.try_virsh(&["destroy", domain]);
        }
    }
}

fn configure(folder: &Path) {
    let socket = folder.join("socket");
    let socket = socket.display();
    let daemon = format!(
        "unix_sock_dir = \"{socket}\"\nauth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\nunix_sock_rw_perms = \"0700\"\n\
         log_outputs = \"3:file:{}/daemon.log\"\n",
        folder.display()
    );
    fs::write(folder.join("libvirtd.conf"), daemon).expect("a file can be written");
    let mut qemu = "security_driver = \"none\"\nstdio_handler = \"file\"\nnamespaces = []\n".to_owned();
    if rustix::process::geteuid().is_root() {
        qemu += "user = \"root\"\ngroup = \"root\"\n";
    }
    let home = folder.join("home/libvirt");
    fs::create_dir(&home).expect("a folder can be made");
    for place in [folder.join("etc"), home] {
        fs::write(place.join("qemu.conf"), &qemu).expect("a file can be written");
    }
}

/// The daemon in the foreground: root's with the fixed folders bound to private ones, for nobody else to see.
fn daemon(folder: &Path) -> Command {
    let (home, root) = (folder.join("home"), rustix::process::geteuid().is_root());
    let mut command = if root {
        let script = "folder=$1; shift\n\
                      while [ $# -gt 0 ]; do mkdir -p \"$2\"; mount --bind \"$folder/$1\" \"$2\"; shift 2; done\n\
                      exec libvirtd -f \"$folder/libvirtd.conf\" -p \"$folder/libvirtd.pid\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-euc", script, "sh"]).arg(folder);
        FOLDERS.iter().for_each(|(name, place)| {
            command.args([name, place]);
        });
        command
    } else {
        let mut command = Command::new("libvirtd");
        command.arg("-f").arg(folder.join("libvirtd.conf")).arg("-p").arg(folder.join("libvirtd.pid"));
        command
    };
    let search = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{search}:/usr/sbin:/sbin"));
    for (variable, of) in [
        ("HOME", "home"),
        ("XDG_CONFIG_HOME", "home"),
        ("XDG_CACHE_HOME", "cache"),
        ("XDG_RUNTIME_DIR", "run"),
    ] {
        command.env(variable, folder.join(of));
    }
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).expect("the folder is ours");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// The disk image that `ci/machine-image` made.
pub fn base_image() -> PathBuf {
    let tools = std::env::var_os("BACKSTAY_TOOLS").map(PathBuf::from);
    let tools = tools.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools"));
    let image = tools.join("machine.qcow2").canonicalize();
    image.expect("ci/machine-image target/tools/machine.qcow2 was run")
}
