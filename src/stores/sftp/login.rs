//! Checked settings: what `ssh` is told, so that nothing in it can be taken for an option, a pattern or a command.

use std::{fmt, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{Identity, SftpOptions, fault::Fault};

/// Settings under which `ssh` can be started.
pub(super) struct Login {
    options: SftpOptions,
    host_key: String,
}

impl Login {
    pub(super) fn new(options: SftpOptions) -> Result<Self, Fault> {
        if !is_host(&options.host) {
            return Err(Fault::Settings("the host is not a name or an address"));
        }
        if !is_user(&options.user) {
            return Err(Fault::Settings("the user is not a login name"));
        }
        if !is_folder(&options.path) {
            return Err(Fault::Settings("the path is not an absolute folder without `..`"));
        }
        let host_key = parse_host_key(&options.host_key).ok_or(Fault::Settings(
            "the host key is not a line such as `ssh-ed25519 AAAA…` (of /etc/ssh/ssh_host_ed25519_key.pub)",
        ))?;
        Ok(Self { options, host_key })
    }

    pub(super) fn host(&self) -> &str {
        &self.options.host
    }

    pub(super) fn port(&self) -> u16 {
        self.options.port
    }

    pub(super) fn user(&self) -> &str {
        &self.options.user
    }

    /// The store's folder, without a slash at its end.
    pub(super) fn folder(&self) -> &str {
        self.options.path.trim_end_matches('/')
    }

    /// Kind and key of the host, without a comment.
    pub(super) fn host_key(&self) -> &str {
        &self.host_key
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.options.identity
    }

    pub(super) fn silence(&self) -> Duration {
        self.options.silence
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sftp://{}@{}:{}{}", self.user(), self.host(), self.port(), self.folder())
    }
}

fn is_host(host: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    !host.is_empty() && !host.starts_with('-') && host.len() <= 255 && host.bytes().all(plain)
}

fn is_user(user: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+');
    !user.is_empty() && !user.starts_with('-') && user.len() <= 64 && user.bytes().all(plain)
}

fn is_folder(path: &str) -> bool {
    path.starts_with('/') && !path.contains('\0') && path.split('/').all(|part| part != "..")
}

/// Reads `KIND BASE64 [COMMENT]`, where the encoded key names the same kind (RFC 4253, section 6.6).
fn parse_host_key(line: &str) -> Option<String> {
    let mut words = line.split_ascii_whitespace();
    let (kind, encoded) = (words.next()?, words.next()?);
    let key = BASE64_STANDARD.decode(encoded).ok()?;
    let (length, rest) = key.split_first_chunk::<4>()?;
    let named = rest.get(..u32::from_be_bytes(*length) as usize)?;
    (named == kind.as_bytes()).then(|| format!("{kind} {encoded}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGGPZ6c5vS8kIh1bmjnSGOzTgVRkZ9kTXCe0hRuRTfYX a comment";

    fn login(host: &str, user: &str, path: &str, host_key: &str) -> Result<Login, Fault> {
        Login::new(SftpOptions {
            host: host.into(),
            port: 22,
            user: user.into(),
            path: path.into(),
            host_key: host_key.into(),
            identity: Identity::File("/k".into()),
            silence: super::super::DEFAULT_SILENCE,
        })
    }

    #[test]
    fn plain_settings_are_taken() {
        for host in ["backup.pavroto.ttu", "10.0.0.1", "::1", "fe80::1", "a_b"] {
            assert!(login(host, "backstay", "/srv/backups/", KEY).is_ok(), "{host}");
        }
        let login = login("h", "u", "/srv/backups/", KEY).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(login.to_string(), "sftp://u@h:22/srv/backups");
        assert!(!login.host_key().contains("comment"));
    }

    #[test]
    fn what_ssh_could_take_for_an_option_a_pattern_or_a_command_is_refused() {
        for host in ["", "-oProxyCommand=id", "a b", "a;id", "u@h", "%h", "$(id)", "h\n", "ssh://h"] {
            assert!(login(host, "u", "/p", KEY).is_err(), "{host:?}");
        }
        for user in ["", "-l", "u v", "u@h", "$(id)", "%r", "u\0"] {
            assert!(login("h", user, "/p", KEY).is_err(), "{user:?}");
        }
        for path in ["", "p", "~/p", "/a/../b", "/a\0"] {
            assert!(login("h", "u", path, KEY).is_err(), "{path:?}");
        }
        let other_kind = KEY.replace("ssh-ed25519 ", "ssh-rsa ");
        for key in ["", "ssh-ed25519", "ssh-ed25519 ####", "* ssh-ed25519 AAAA", other_kind.as_str()] {
            assert!(login("h", "u", "/p", key).is_err(), "{key:?}");
        }
    }
}
