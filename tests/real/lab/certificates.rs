//! An authority of the test's own, and what it signed for servers and clients of this machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use tempfile::TempDir;

use super::run;

#[derive(Clone)]
pub struct Certificates(Arc<TempDir>);

impl Certificates {
    /// Makes an authority that has signed `server` for 127.0.0.1, and `client`.
    pub fn make() -> Self {
        let made = Self(Arc::new(tempfile::tempdir().expect("a temporary folder can be made")));
        let mut authority = openssl(made.0.path(), "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256");
        authority.args("-nodes -days 1 -subj /CN=lab -keyout ca.key -out ca.pem".split(' '));
        run(&mut authority);
        made.sign("server", "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth");
        made.sign("client", "extendedKeyUsage=clientAuth");
        made
    }

    fn sign(&self, name: &str, extensions: &str) {
        let folder = self.0.path();
        fs::write(folder.join("extensions"), extensions).unwrap();
        let mut ask = openssl(folder, "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes");
        ask.args(["-subj", &format!("/CN={name}"), "-keyout", &format!("{name}.key"), "-out", "request"]);
        run(&mut ask);
        let mut sign =
            openssl(folder, "x509 -req -days 1 -in request -CA ca.pem -CAkey ca.key -CAcreateserial");
        run(sign.args(["-extfile", "extensions", "-out", &format!("{name}.pem")]));
    }

    /// A file of the folder: `ca.pem`, `server.pem`, `server.key`, `client.pem`, `client.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn openssl(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new("openssl");
    command.args(arguments.split(' ')).current_dir(folder);
    command
}
