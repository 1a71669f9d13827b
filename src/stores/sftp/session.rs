//! One connection to the host. Every answer is waited for with a limit on silence.

use std::time::Duration;

use openssh_sftp_client::{Error, Sftp, SftpOptions, file::OpenOptions, fs::Fs};
use tokio::time::timeout;

use super::{fault::Fault, login::Login, ssh::Ssh};

/// A connection.
pub(super) struct Session {
    sftp: Sftp,
    silence: Duration,
    /// Ends with the session.
    _ssh: Ssh,
}

impl Session {
    /// Connects, logs in, and makes sure that the server can do what a durable put needs.
    pub(super) async fn open(login: &Login) -> Result<Self, Fault> {
        let (ssh, stdin, stdout) = Ssh::start(login)?;
        let silence = login.silence();
        // Requests are sent at once: most are single, and wait for their answer.
        let options = SftpOptions::new().flush_interval(Duration::ZERO);
        let sftp = match timeout(silence, Sftp::new(stdin, stdout, options)).await {
            Ok(Ok(sftp)) => sftp,
            Ok(Err(error)) => return Err(ssh.explain(error.into()).await),
            Err(_) => return Err(Fault::Silent(silence)),
        };
        for (supported, extension) in
            [(sftp.support_fsync(), "fsync@openssh.com"), (sftp.support_hardlink(), "hardlink@openssh.com")]
        {
            if !supported {
                return Err(Fault::Unsupported(extension));
            }
        }
        Ok(Self { sftp, silence, _ssh: ssh })
    }

    pub(super) fn fs(&self) -> Fs {
        self.sftp.fs()
    }

    pub(super) fn options(&self) -> OpenOptions {
        self.sftp.options()
    }

    pub(super) fn can_statvfs(&self) -> bool {
        self.sftp.support_statvfs()
    }

    /// The answer to a request, unless the host is silent for too long.
    pub(super) async fn answer<T>(
        &self,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Fault> {
        Ok(self.heard(request).await??)
    }

    /// The next thing that happens, unless the host is silent for too long.
    pub(super) async fn heard<T>(&self, next: impl Future<Output = T>) -> Result<T, Fault> {
        timeout(self.silence, next).await.map_err(|_| Fault::Silent(self.silence))
    }
}
