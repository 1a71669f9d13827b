//! Where a repository is: a folder of this host, or what `git` reaches by https or ssh.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// A repository's URL as `git` understands it, restricted to folders, `file`, `https` and `ssh`.
///
/// Never holds a password: it would stand in the arguments of `git`, for every user of the host to see.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoUrl {
    text: String,
    local: Option<PathBuf>,
}

const HTTPS: &str = "https://";

/// A text that is no URL of a repository.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to read the repository URL `{}`: {reason}", without_user(.url).escape_debug())]
pub struct InvalidUrl {
    /// The text.
    pub url: String,
    /// What is wrong with it and what to write instead.
    pub reason: &'static str,
}

impl RepoUrl {
    /// Parses what a configuration or declaration names.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let invalid = |reason| Err(InvalidUrl { url: text.to_owned(), reason });
        if text.is_empty() || text.starts_with('-') || text.chars().any(char::is_control) {
            return invalid("write a path, or a URL that begins with file, https or ssh");
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return match scheme {
                "https" | "ssh" if has_password(rest) => {
                    invalid("leave the password out and give it to git's credential helper")
                }
                "https" | "ssh" => Ok(Self { text: text.to_owned(), local: None }),
                "file" if rest.starts_with('/') && !rest.contains('%') => Ok(Self::folder(Path::new(rest))),
                "file" => invalid("write the absolute path itself, without file://"),
                _ => invalid("use https, ssh, or a path: other protocols are not allowed"),
            };
        }
        match text.split_once(':') {
            Some((_, rest)) if rest.starts_with(':') => {
                invalid("remote helpers are not allowed: use https, ssh, or a path")
            }
            // git's own rule: a colon before the first slash makes it host:path.
            Some((host, _)) if !host.contains('/') => Ok(Self { text: text.to_owned(), local: None }),
            _ => match std::path::absolute(text) {
                Ok(path) => Ok(Self::folder(&path)),
                Err(_) => invalid("write an absolute path"),
            },
        }
    }

    fn folder(path: &Path) -> Self {
        Self { text: path.to_string_lossy().into_owned(), local: Some(path.to_owned()) }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// As it stands in arguments of `git`, which every user of the host can read: without the user of https, who may be a token
    /// ([`RepoUrl::credential`]).
    pub fn argument(&self) -> String {
        match self.text.starts_with(HTTPS) {
            true => without_user(&self.text),
            false => self.text.clone(),
        }
    }

    /// The host of https, as `https://HOST`, and the user that is to be known by there, where one is named.
    pub(super) fn credential(&self) -> Option<(String, String)> {
        let (_, host) = authority(self.text.strip_prefix(HTTPS)?).rsplit_once('@')?;
        let user = self.user()?;
        let user = percent_encoding::percent_decode_str(user).decode_utf8().ok()?;
        let is_plain = !user.is_empty() && !user.chars().any(char::is_control);
        is_plain.then(|| (format!("{HTTPS}{host}"), user.into_owned()))
    }

    /// The user of https as it is written, where one is named.
    pub(super) fn user(&self) -> Option<&str> {
        authority(self.text.strip_prefix(HTTPS)?).rsplit_once('@').map(|(user, _)| user)
    }

    /// The folder, when the repository is one of this host.
    pub fn local(&self) -> Option<&Path> {
        self.local.as_deref()
    }
}

impl std::str::FromStr for RepoUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        Self::parse(text)
    }
}

/// For messages: without the user of an https URL, which may be a token.
impl fmt::Display for RepoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&without_user(&self.text))
    }
}

impl fmt::Debug for RepoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RepoUrl({self})")
    }
}

fn authority(rest: &str) -> &str {
    rest.split('/').next().unwrap_or(rest)
}

fn has_password(rest: &str) -> bool {
    authority(rest).rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}

fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match authority(rest).rsplit_once('@') {
        Some((user, _)) if scheme != "ssh" || user.contains(':') => {
            format!("{scheme}://{}", &rest[user.len() + 1..])
        }
        _ => url.to_owned(),
    }
}

/// The folder that holds the references and objects of the repository at `path`, be it bare, a work tree or a linked
/// work tree; `None` when there is no repository. Layout: gitrepository-layout(5).
pub fn git_dir(path: &Path) -> Option<PathBuf> {
    let inside = path.join(".git");
    let dir = if inside.is_dir() {
        inside
    } else if inside.is_file() {
        let link = fs::read_to_string(&inside).ok()?;
        path.join(link.strip_prefix("gitdir:")?.trim())
    } else {
        path.to_owned()
    };
    let common = match fs::read_to_string(dir.join("commondir")) {
        Ok(common) => dir.join(common.trim()),
        Err(_) => dir,
    };
    (common.join("HEAD").exists() && common.join("objects").is_dir()).then_some(common)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_hosts_are_told_apart_as_git_does() {
        for local in ["/srv/git/infra.git", "./infra", "../infra", "file:///srv/infra.git", "/a:b/c"] {
            assert!(RepoUrl::parse(local).unwrap().local().is_some_and(Path::is_absolute), "{local}");
        }
        for remote in ["https://example.org/infra.git", "ssh://git@h:2222/i.git", "git@host:infra.git"] {
            assert_eq!(RepoUrl::parse(remote).unwrap().local(), None, "{remote}");
        }
    }

    #[test]
    fn what_could_run_programs_or_show_passwords_is_refused() {
        for bad in [
            "",
            "-oProxyCommand=x",
            "--upload-pack=x",
            "ext::sh -c id",
            "http://example.org/x",
            "git://example.org/x",
            "fd::7",
            "/srv/\u{1b}[31m",
            "/srv/a\0b",
            "https://user:secret@example.org/x",
        ] {
            let error = RepoUrl::parse(bad).unwrap_err().to_string();
            assert!(!error.contains("secret") && !error.contains('\u{1b}'), "{error}");
        }
    }

    #[test]
    fn a_token_in_place_of_the_user_is_not_shown() {
        let url = RepoUrl::parse("https://ghp_token@example.org/x").unwrap();
        assert_eq!(url.to_string(), "https://example.org/x");
        assert_eq!(format!("{url:?}"), "RepoUrl(https://example.org/x)");
        assert_eq!(url.argument(), "https://example.org/x");
        assert_eq!(url.credential(), Some(("https://example.org".to_owned(), "ghp_token".to_owned())));
        let encoded = RepoUrl::parse("https://a%40b@example.org:8443/x@y").unwrap();
        assert_eq!(encoded.argument(), "https://example.org:8443/x@y");
        assert_eq!(encoded.credential(), Some(("https://example.org:8443".to_owned(), "a@b".to_owned())));
        for plain in ["https://example.org/x@y", "ssh://git@host/x", "git@host:x", "/srv/a@b"] {
            let url = RepoUrl::parse(plain).unwrap();
            assert_eq!((url.argument().as_str(), url.credential()), (plain, None));
        }
        assert_eq!(RepoUrl::parse("ssh://git@host/x").unwrap().to_string(), "ssh://git@host/x");
    }
}
