//! Secrets: found when they are needed, bound to where they may be sent, never printed.
//!
//! A revision of the infra repo only names secrets ([`SecretRef`]). Which of them it may use, and to which hosts each
//! may be sent, is up to the controller's own configuration: the allowances of a [`Resolver`]. A secret inside age
//! needs no allowance, for whoever wrote it into the infra repo knew it.

use std::{
    fmt,
    io::Read,
    net::IpAddr,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Component, Path, PathBuf},
    time::Duration,
};

use age::armor::ArmoredReader;
use ipnet::IpNet;
use zeroize::Zeroizing;

use crate::{
    process::{ProcessError, Program},
    spec::SecretRef,
};

/// The largest secret, bytes.
pub const LARGEST: usize = 64 * 1024;

/// How long a program may take to print a secret.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// A secret text. Wiped from memory when it is dropped; prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes over `text`.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Text without the line end that editors and programs add, of at most [`LARGEST`] bytes.
    fn read(mut from: impl Read) -> Result<Self, Unusable> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST + 1));
        from.by_ref()
            .take(LARGEST as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| Unusable(e.to_string()))?;
        if bytes.len() > LARGEST {
            return Err(Unusable(format!("it is larger than {LARGEST} bytes")));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| Unusable("it is not UTF-8 text".to_owned()))?;
        let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
        if text.is_empty() { Err(Unusable("it is empty".to_owned())) } else { Ok(Self::new(text.to_owned())) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Whether a host is the one that is allowed, or its address is in the network that is: a name never is in one, whatever it resolves to.
fn is_of(host: &str, allowed: &str) -> bool {
    let in_network = || {
        let (network, address) = (allowed.parse::<IpNet>().ok()?, host.parse::<IpAddr>().ok()?);
        Some(network.contains(&address))
    };
    allowed.eq_ignore_ascii_case(host) || in_network() == Some(true)
}

/// Why something is no secret; never shows it.
struct Unusable(String);

/// A secret that could not be found. Names it, never shows it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SecretError {
    /// The controller's configuration does not let it be sent there.
    #[error(
        "failed to use {secret} for {host}: this host does not allow it; add {allowance} to `allow.secrets`"
    )]
    NotAllowed {
        /// Which secret.
        secret: String,
        /// Where it would have been sent.
        host: String,
        /// The line to add.
        allowance: String,
    },
    /// The controller's configuration does not let the program be started.
    #[error("failed to start `{program}` for a secret: this host does not allow it; add it to `allow.run`")]
    ProgramNotAllowed {
        /// The program.
        program: String,
    },
    /// Others than the controller can read the file.
    #[error("failed to read {}: others can read it (mode {mode:04o}); chmod 600 it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It can't be read, or is not usable.
    #[error("failed to read {secret}: {reason}; {hint}")]
    Unreadable {
        /// Which secret.
        secret: String,
        /// Why.
        reason: String,
        /// What to do next.
        hint: &'static str,
    },
    /// The program that prints it failed.
    #[error("failed to read a secret from a program: {0}")]
    Command(#[from] ProcessError),
    /// None of the controller's identities opens it.
    #[error(
        "failed to decrypt a secret: {reason}; encrypt it to this controller's identity (`keys.identity`)"
    )]
    Decrypt {
        /// Why.
        reason: String,
    },
}

/// A secret that revisions may use, and the hosts that it may be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The file, a folder of such files, or the variable.
    pub secret: Allowed,
    /// Names or addresses, as sources and stores are declared; `localhost` for sockets.
    pub hosts: Vec<String>,
}

/// What an [`Allowance`] allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// A file, or every file of a folder.
    Path(PathBuf),
    /// A variable of the controller's environment.
    Variable(String),
}

/// Finds secrets, within what this host allows.
#[derive(Clone, Default)]
pub struct Resolver {
    allowances: Vec<Allowance>,
    programs: Vec<String>,
    identities: Vec<age::x25519::Identity>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("allowances", &self.allowances)
            .field("programs", &self.programs)
            .finish_non_exhaustive()
    }
}

impl Resolver {
    /// A resolver that gives out what `allowances` bind to a host, runs only `programs` (as a declaration spells
    /// them), and opens age with `identities`.
    pub fn new(
        allowances: Vec<Allowance>,
        programs: Vec<String>,
        identities: Vec<age::x25519::Identity>,
    ) -> Self {
        Self { allowances, programs, identities }
    }

    /// Finds the secret that `reference` names, to be sent to `host` and nowhere else.
    ///
    /// # Errors
    /// What is not allowed is refused before anything is read or started.
    pub async fn resolve(&self, reference: &SecretRef, host: &str) -> Result<Secret, SecretError> {
        self.permit(reference, host)?;
        match reference {
            SecretRef::File(path) => from_file(path),
            SecretRef::Env(name) => from_variable(name),
            SecretRef::Command(command) => from_command(command).await,
            SecretRef::Age(armored) => from_age(armored, &self.identities),
        }
    }

    /// Whether this host lets a revision send the secret to `host`. Reads nothing.
    ///
    /// # Errors
    /// A refusal that names the line to add.
    pub fn permit(&self, reference: &SecretRef, host: &str) -> Result<(), SecretError> {
        let refused = |secret: String, allowance: String| SecretError::NotAllowed {
            secret,
            host: host.escape_debug().to_string(),
            allowance: format!("{{ {allowance}, hosts = [{host:?}] }}"),
        };
        match reference {
            SecretRef::File(path) if !self.allows(host, |allowed| covers(allowed, path)) => {
                Err(refused(path.display().to_string(), format!("path = {path:?}")))
            }
            SecretRef::Env(name)
                if !self.allows(host, |allowed| *allowed == Allowed::Variable(name.clone())) =>
            {
                Err(refused(format!("variable {name}"), format!("env = {name:?}")))
            }
            SecretRef::Command(command) if !command.first().is_some_and(|p| self.programs.contains(p)) => {
                let program = command.first().map(|p| p.escape_debug().to_string()).unwrap_or_default();
                Err(SecretError::ProgramNotAllowed { program })
            }
            _ => Ok(()),
        }
    }

    fn allows(&self, host: &str, covers: impl Fn(&Allowed) -> bool) -> bool {
        let sent_to = |hosts: &[String]| hosts.iter().any(|allowed| is_of(host, allowed));
        self.allowances.iter().any(|allowance| covers(&allowance.secret) && sent_to(&allowance.hosts))
    }
}

/// Whether `allowed` is `path` or a folder around it. `..` never leaves a folder.
fn covers(allowed: &Allowed, path: &Path) -> bool {
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    matches!(allowed, Allowed::Path(allowed) if plain && path.is_absolute() && path.starts_with(allowed))
}

/// Reads a secret file, which nobody but this user and root may be able to read.
///
/// # Errors
/// [`SecretError::Exposed`] when others can read it; [`SecretError::Unreadable`] when it is missing, empty, no text, no
/// file, or larger than [`LARGEST`].
pub fn from_file(path: &Path) -> Result<Secret, SecretError> {
    let unreadable = |reason: String| SecretError::Unreadable {
        secret: path.display().to_string(),
        reason,
        hint: "put the secret into that file, mode 0600, owned by the controller's user",
    };
    // Opening a fifo would wait for its writer.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(nonblock).open(path);
    let file = file.map_err(|error| unreadable(error.to_string()))?;
    let metadata = file.metadata().map_err(|error| unreadable(error.to_string()))?;
    if !metadata.is_file() {
        return Err(unreadable("it is not a file".to_owned()));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(SecretError::Exposed { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    if metadata.uid() != 0 && metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(unreadable(format!("it belongs to user {}", metadata.uid())));
    }
    Secret::read(file).map_err(|why| unreadable(why.0))
}

/// Reads a secret from a variable of this process's environment.
///
/// # Errors
/// [`SecretError::Unreadable`] when it is not set, empty, no text, or larger than [`LARGEST`].
pub fn from_variable(name: &str) -> Result<Secret, SecretError> {
    let unreadable = |reason: String| SecretError::Unreadable {
        secret: format!("variable {name}"),
        reason,
        hint: "set it in the controller's environment",
    };
    let value = Zeroizing::new(std::env::var(name).map_err(|error| match error {
        std::env::VarError::NotPresent => unreadable("it is not set".to_owned()),
        std::env::VarError::NotUnicode(_) => unreadable("it is not UTF-8 text".to_owned()),
    })?);
    Secret::read(value.as_bytes()).map_err(|why| unreadable(why.0))
}

async fn from_command(command: &[String]) -> Result<Secret, SecretError> {
    let [program, arguments @ ..] = command else {
        return Err(SecretError::ProgramNotAllowed { program: String::new() });
    };
    let started = Program::new(program).arguments(arguments).timeout(COMMAND_TIMEOUT);
    let printed = Zeroizing::new(started.output(b"", LARGEST + 2).await?);
    Secret::read(printed.as_slice()).map_err(|why| SecretError::Unreadable {
        secret: format!("what `{program}` printed"),
        reason: why.0,
        hint: "make it print the secret alone",
    })
}

fn from_age(armored: &str, identities: &[age::x25519::Identity]) -> Result<Secret, SecretError> {
    let failed = |reason: String| SecretError::Decrypt { reason };
    let decryptor = age::Decryptor::new_buffered(ArmoredReader::new(armored.trim().as_bytes()));
    let decryptor = decryptor.map_err(|error| failed(error.to_string()))?;
    let keys = identities.iter().map(|identity| identity as &dyn age::Identity);
    let plaintext = decryptor.decrypt(keys).map_err(|error| failed(error.to_string()))?;
    Secret::read(plaintext).map_err(|why| failed(why.0))
}

#[cfg(test)]
mod tests;
