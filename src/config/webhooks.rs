//! Who may tell the controller to look, and by which secret he proves it.

use std::{fmt, path::PathBuf};

use crate::secrets::{self, Secret, SecretError};

/// Where webhooks come from; each proves itself in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Forge {
    /// GitHub, and its Enterprise Server.
    GitHub,
    /// GitLab.
    GitLab,
    /// Gitea.
    Gitea,
    /// Forgejo, also Codeberg.
    Forgejo,
    /// Bitbucket Cloud and Data Center.
    Bitbucket,
    /// A plain Git server, by the hook that `backstay hook install` writes.
    Git,
}

impl Forge {
    /// Every forge.
    pub const ALL: [Forge; 6] =
        [Forge::GitHub, Forge::GitLab, Forge::Gitea, Forge::Forgejo, Forge::Bitbucket, Forge::Git];

    /// Its name in the configuration, in paths and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Forge::GitHub => "github",
            Forge::GitLab => "gitlab",
            Forge::Gitea => "gitea",
            Forge::Forgejo => "forgejo",
            Forge::Bitbucket => "bitbucket",
            Forge::Git => "git",
        }
    }

    /// The forge of that name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|forge| forge.as_str() == name)
    }
}

impl fmt::Display for Forge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a secret of this host is: no commit names it, so it needs no allowance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostSecret {
    /// A file that nobody but the controller's user can read.
    File(PathBuf),
    /// A variable of the controller's environment.
    Variable(String),
}

impl HostSecret {
    /// The secret as it is now.
    ///
    /// # Errors
    /// As [`secrets::from_file`] and [`secrets::from_variable`].
    pub fn read(&self) -> Result<Secret, SecretError> {
        match self {
            HostSecret::File(path) => secrets::from_file(path),
            HostSecret::Variable(name) => secrets::from_variable(name),
        }
    }
}
