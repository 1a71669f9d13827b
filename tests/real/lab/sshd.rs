//! OpenSSH's server with SFTP, key only, with a host key of its own. Logs in the tests' own user.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use backstay::stores::sftp::{DEFAULT_SILENCE, Identity, SftpOptions};
use tempfile::TempDir;

use super::{Server, free_port, run};

pub struct Sshd {
    folder: TempDir,
    port: u16,
    server: Server,
}

impl Sshd {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        for name in ["host_key", "identity", "stranger"] {
            new_key(&folder.path().join(name));
        }
        fs::copy(folder.path().join("identity.pub"), folder.path().join("authorized_keys")).unwrap();
        fs::create_dir(folder.path().join("store")).unwrap();
        if rustix::process::geteuid().is_root() {
            // Where it separates its privileges; a service manager would have made it.
            fs::create_dir_all("/run/sshd").expect("root can make /run/sshd");
        }
        let port = free_port();
        fs::write(folder.path().join("sshd_config"), config(folder.path(), port)).unwrap();
        let server = start(folder.path(), port);
        Self { folder, port, server }
    }

    /// Kills it with every connection.
    pub fn kill(&mut self) {
        self.server.kill().unwrap();
    }

    /// Starts it again, on the same port with the same keys.
    pub fn restart(&mut self) {
        self.server = start(self.folder.path(), self.port);
    }

    /// Has every connection stay open and fall silent.
    pub fn freeze(&self) {
        self.server.freeze();
    }

    /// Lets frozen connections go on.
    pub fn thaw(&self) {
        self.server.thaw();
    }

    /// How its folder `store` is reached.
    pub fn options(&self) -> SftpOptions {
        SftpOptions {
            host: "127.0.0.1".into(),
            port: self.port,
            user: user(),
            path: self.store().display().to_string(),
            host_key: fs::read_to_string(self.folder.path().join("host_key.pub")).unwrap(),
            identity: Identity::File(self.folder.path().join("identity")),
            silence: DEFAULT_SILENCE,
        }
    }

    /// The key that it lets in.
    pub fn identity(&self) -> PathBuf {
        self.folder.path().join("identity")
    }

    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// A key that the server does not know.
    pub fn stranger(&self) -> PathBuf {
        self.folder.path().join("stranger")
    }
}

fn new_key(path: &Path) {
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path));
}

fn user() -> String {
    let output = Command::new("id").arg("-un").output().expect("`id` runs");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn config(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile none\n\
         AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
         MaxStartups 100\nSubsystem sftp internal-sftp\n"
    )
}

fn start(folder: &Path, port: u16) -> Server {
    let log = fs::File::create(folder.join("log")).unwrap();
    let mut command = Command::new("/usr/sbin/sshd");
    command.args(["-D", "-e", "-f"]).arg(folder.join("sshd_config"));
    let mut server = Server::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log));
    server.wait_for_port(port);
    server
}
