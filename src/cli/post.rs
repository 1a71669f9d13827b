//! `plan --against … --post`: the review as a commit status and a comment at the repo's host.

use std::{env, fs::File, io::Read, path::PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use zeroize::Zeroizing;

use super::{controller::block_on, exit::Exit, terminal::Terminal};
use crate::{
    forges::{
        self, Circumstances, Client, Kind, LONGEST_DESCRIPTION, State, Status, ci,
        client::{Patience, Posted},
    },
    render::review::{
        Told,
        markdown::{Flavor, markdown},
    },
};

/// Where a review is posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Host {
    /// As the CI's variables tell.
    Auto,
    /// GitHub.
    Github,
    /// GitLab.
    Gitlab,
    /// Forgejo or Gitea.
    Forgejo,
    /// Bitbucket Cloud.
    Bitbucket,
}

/// The longest event that is read, bytes. GitHub bounds payloads at 25 MB.
const LONGEST_EVENT: u64 = 25 << 20;
/// The longest token that is read from a file, bytes.
const LONGEST_TOKEN: u64 = 16 << 10;

/// A host that a review is posted to.
pub(super) struct Post {
    client: Client,
    place: Circumstances,
}

impl Post {
    /// Finds out where this run stands, and with which token.
    pub(super) fn open(host: Host) -> anyhow::Result<Self> {
        let variable = |name: &str| env::var(name).ok();
        let kind = match host {
            Host::Auto => ci::detect(&variable)?,
            Host::Github => Kind::Github,
            Host::Gitlab => Kind::Gitlab,
            Host::Forgejo => Kind::Forgejo,
            Host::Bitbucket => Kind::Bitbucket,
        };
        let place = ci::circumstances(kind, &variable, event()?.as_ref())?;
        let token = token(place.token_variables)?;
        let dialect = forges::dialect(kind, &place.project);
        let client = Client::new(&place.api, dialect, &token, Patience::default())?;
        Ok(Self { client, place })
    }

    /// Says that the review is under way.
    pub(super) fn pending(&self) -> anyhow::Result<()> {
        self.status(State::Pending, "the review is under way".to_owned())
    }

    /// Writes the comment, and says what the review comes to.
    pub(super) fn conclude(&self, told: &Told, exit: Exit, terminal: &Terminal) -> anyhow::Result<()> {
        if let Some(change) = self.place.change {
            let flavor = if self.place.kind == Kind::Bitbucket { Flavor::Plain } else { Flavor::Folding };
            let text = markdown(told, flavor, self.client.longest_comment());
            let posted = block_on(async { Ok(self.client.comment(change, &text).await?) })?;
            terminal.note(match posted {
                Posted::Created => "Commented on the merge request.",
                Posted::Updated => "Updated the comment of the merge request.",
            });
        }
        let state = if matches!(exit, Exit::Done) { State::Success } else { State::Failure };
        self.status(state, told.review.to_string().chars().take(LONGEST_DESCRIPTION).collect())
    }

    fn status(&self, state: State, description: String) -> anyhow::Result<()> {
        let status = Status { state, description, page: self.place.page.clone() };
        block_on(async { Ok(self.client.set_status(&self.place.commit, &status).await?) })
    }
}

/// What GitHub and its likes tell of the event that started the run.
fn event() -> anyhow::Result<Option<serde_json::Value>> {
    let Some(path) = env::var_os("GITHUB_EVENT_PATH").map(PathBuf::from) else { return Ok(None) };
    let failed = || format!("failed to read {}, which GITHUB_EVENT_PATH names", path.display());
    let mut text = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(LONGEST_EVENT).read_to_end(&mut text))
        .with_context(failed)?;
    serde_json::from_slice(&text).with_context(failed).map(Some)
}

/// The token, from a file or a variable.
fn token(theirs: &[&str]) -> anyhow::Result<Zeroizing<String>> {
    if let Some(path) = env::var_os("BACKSTAY_FORGE_TOKEN_FILE").map(PathBuf::from) {
        let mut text = Zeroizing::new(String::new());
        File::open(&path)
            .and_then(|file| file.take(LONGEST_TOKEN).read_to_string(&mut text))
            .with_context(|| format!("failed to read the token in {}", path.display()))?;
        return Ok(Zeroizing::new(text.trim().to_owned()));
    }
    let named = std::iter::once("BACKSTAY_FORGE_TOKEN").chain(theirs.iter().copied());
    let found = named.filter_map(|name| env::var(name).ok()).find(|token| !token.is_empty());
    match found {
        Some(token) => Ok(Zeroizing::new(token)),
        None => bail!(
            "found no token for the repo's host: set BACKSTAY_FORGE_TOKEN_FILE, BACKSTAY_FORGE_TOKEN or {}",
            theirs.join(" or ")
        ),
    }
}
