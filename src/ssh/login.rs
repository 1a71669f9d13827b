//! Checked settings: what `ssh` is told, so that nothing in it can be taken for an option, a pattern or a command.

use std::{fmt, path::PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

/// How a host is reached.
#[derive(Clone, Debug)]
pub struct SshOptions {
    /// Name or address.
    pub host: String,
    /// TCP port of its sshd.
    pub port: u16,
    /// Whom to log in as.
    pub user: String,
    /// The host's public key as in `/etc/ssh/ssh_host_*_key.pub`: `ssh-ed25519 AAAA…`.
    pub host_key: String,
    /// The private key to log in with, without a passphrase.
    pub identity: Identity,
}

/// A private key.
#[derive(Clone)]
pub enum Identity {
    /// A file that only its owner can read.
    File(PathBuf),
    /// The key itself; given to `ssh` in a private file that is removed with the connection.
    Key(Zeroizing<String>),
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::File(path) => f.debug_tuple("File").field(path).finish(),
            Identity::Key(_) => f.write_str("Key(…)"),
        }
    }
}

/// Settings under which `ssh` can be started.
#[derive(Clone, Debug)]
pub struct Login {
    options: SshOptions,
    host_key: String,
}

impl Login {
    /// Checks settings.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(options: SshOptions) -> Result<Self, &'static str> {
        if !is_host(&options.host) {
            return Err("the host is not a name or an address");
        }
        if !is_user(&options.user) {
            return Err("the user is not a login name");
        }
        let host_key = host_key_of(&options.host_key).ok_or(
            "the host key is not a line such as `ssh-ed25519 AAAA…` (of /etc/ssh/ssh_host_ed25519_key.pub)",
        )?;
        Ok(Self { options, host_key })
    }

    /// Name or address.
    pub fn host(&self) -> &str {
        &self.options.host
    }

    /// TCP port.
    pub fn port(&self) -> u16 {
        self.options.port
    }

    /// Whom to log in as.
    pub fn user(&self) -> &str {
        &self.options.user
    }

    /// Kind and key of the host, without a comment.
    pub fn host_key(&self) -> &str {
        &self.host_key
    }

    /// What to log in with.
    pub fn identity(&self) -> &Identity {
        &self.options.identity
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.user(), self.host(), self.port())
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

/// Reads `KIND BASE64 [COMMENT]`, where the encoded key names the same kind (RFC 4253, section 6.6); what is left without the
/// comment.
pub fn host_key_of(line: &str) -> Option<String> {
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

    fn login(host: &str, user: &str, host_key: &str) -> Result<Login, &'static str> {
        Login::new(SshOptions {
            host: host.into(),
            port: 22,
            user: user.into(),
            host_key: host_key.into(),
            identity: Identity::File("/k".into()),
        })
    }

    #[test]
    fn plain_settings_are_taken() {
        for host in ["backup.pavroto.ttu", "10.0.0.1", "::1", "fe80::1", "a_b"] {
            assert!(login(host, "backstay", KEY).is_ok(), "{host}");
        }
        let login = login("h", "u", KEY).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(login.to_string(), "u@h:22");
        assert!(!login.host_key().contains("comment"));
    }

    #[test]
    fn what_ssh_could_take_for_an_option_a_pattern_or_a_command_is_refused() {
        for host in ["", "-oProxyCommand=id", "a b", "a;id", "u@h", "%h", "$(id)", "h\n", "ssh://h"] {
            assert!(login(host, "u", KEY).is_err(), "{host:?}");
        }
        for user in ["", "-l", "u v", "u@h", "$(id)", "%r", "u\0"] {
            assert!(login("h", user, KEY).is_err(), "{user:?}");
        }
        let other_kind = KEY.replace("ssh-ed25519 ", "ssh-rsa ");
        for key in ["", "ssh-ed25519", "ssh-ed25519 ####", "* ssh-ed25519 AAAA", other_kind.as_str()] {
            assert!(login("h", "u", key).is_err(), "{key:?}");
        }
    }
}
