//! Checked settings of a store.

use std::{fmt, time::Duration};

use super::{SftpOptions, fault::Fault};
use crate::ssh;

/// Settings under which `ssh` can be started.
pub(super) struct Login {
    ssh: ssh::Login,
    path: String,
    silence: Duration,
}

impl Login {
    pub(super) fn new(options: SftpOptions) -> Result<Self, Fault> {
        let SftpOptions { host, port, user, path, host_key, identity, silence } = options;
        if !is_folder(&path) {
            return Err(Fault::Settings("the path is not an absolute folder without `..`"));
        }
        let options = ssh::SshOptions { host, port, user, host_key, identity };
        Ok(Self { ssh: ssh::Login::new(options).map_err(Fault::Settings)?, path, silence })
    }

    pub(super) fn ssh(&self) -> &ssh::Login {
        &self.ssh
    }

    /// The store's folder, without a slash at its end.
    pub(super) fn folder(&self) -> &str {
        self.path.trim_end_matches('/')
    }

    pub(super) fn silence(&self) -> Duration {
        self.silence
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sftp://{}{}", self.ssh, self.folder())
    }
}

fn is_folder(path: &str) -> bool {
    path.starts_with('/') && !path.contains('\0') && path.split('/').all(|part| part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(host: &str, path: &str) -> Result<Login, Fault> {
        Login::new(SftpOptions {
            host: host.into(),
            port: 22,
            user: "u".into(),
            path: path.into(),
            host_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGGPZ6c5vS8kIh1bmjnSGOzTgVRkZ9kTXCe0hRuRTfYX"
                .into(),
            identity: super::super::Identity::File("/k".into()),
            silence: super::super::DEFAULT_SILENCE,
        })
    }

    #[test]
    fn a_store_is_an_absolute_folder_of_a_host() {
        let taken = login("h", "/srv/backups/").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(taken.to_string(), "sftp://u@h:22/srv/backups");
        for path in ["", "p", "~/p", "/a/../b", "/a\0"] {
            assert!(login("h", path).is_err(), "{path:?}");
        }
        assert!(login("-oProxyCommand=id", "/p").is_err());
    }
}
