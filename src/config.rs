//! The controller's own configuration: on its host, never in the infra repo. It bounds what a commit may make the
//! host do.

pub mod allow;
pub mod fleets;
mod schedules;
mod schema;
mod webhooks;

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

pub use allow::{Allow, Refusal};
pub use schedules::{Host, Schedules};
pub use webhooks::{Forge, HostSecret};

use crate::{
    diagnostic::{Diagnostic, Location},
    git::{Mode, Policy, RepoUrl},
    render::{Palette, diagnostics},
    sandboxes::IsolationMode,
    secrets::{Allowance, Allowed},
    spec::{
        document::LARGEST_FILE,
        single::Single,
        values::{LocalPath, Text, Word},
    },
};

/// The controller's own configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file that it was read from.
    pub file: PathBuf,
    /// The cache.
    pub state_dir: PathBuf,
    /// The infra repo.
    pub repo: Repo,
    /// Where health and metrics are served and webhooks taken; `None` listens nowhere.
    pub http: Option<Http>,
    /// Keys.
    pub keys: Keys,
    /// Where schedules are armed.
    pub schedules: Schedules,
    /// The folder that drills make their sandboxes in.
    pub sandboxes: PathBuf,
    /// How the programs in them are kept apart from this host.
    pub isolation: IsolationMode,
    /// How much is done at a time.
    pub bounds: Bounds,
    /// How logs are read as they are written.
    pub readers: Readers,
    /// The branch of the infra repo that runbooks are kept up to date on; `None` keeps them on none.
    pub runbook_branch: Option<String>,
    /// What a commit may make this host do.
    pub allow: Allow,
}

/// The infra repo.
#[derive(Clone, Debug, PartialEq)]
pub struct Repo {
    /// Where it is fetched from.
    pub url: RepoUrl,
    /// The branch whose tip is desired.
    pub branch: String,
    /// The folder of the repo that is read, without slashes at its ends; empty is all of it.
    pub path: String,
    /// How often it is looked at when nothing else tells of a change.
    pub poll: Duration,
    /// What must be signed, and by whom; `None` verifies nothing.
    pub trust: Option<Policy>,
    /// Whose commits may approve plans, in either format of keys; `None` is nobody's.
    pub approvers: Option<PathBuf>,
}

/// Where health and metrics are served and webhooks taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Address and port.
    pub listen: SocketAddr,
    /// Who may tell the controller to look, by the secret that proves it.
    pub webhooks: BTreeMap<Forge, HostSecret>,
}

/// Keys of the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The folder of the signing and the naming key, made at first start.
    pub dir: PathBuf,
    /// Public signing keys of earlier controllers.
    pub trusted: Vec<String>,
    /// The file of the age identity, for restores, drills and plaintext checks; backups do not need it.
    pub identity: Option<PathBuf>,
    /// age public keys without which no commit comes into force.
    pub must_recipients: Vec<String>,
}

/// How much is done at a time, where the host says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Steps at a time, at least one.
    pub steps: Option<usize>,
    /// Steps at a time that use one store, at least one.
    pub per_store: Option<usize>,
}

/// How logs are read as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// They are.
    On {
        /// The most that is kept of one backup's log until every store has it, bytes.
        max_spool: u64,
    },
    /// They are captured at their slots only.
    Off,
}

impl Readers {
    /// The most that is kept of one backup's log; `None` where nothing is read ahead.
    pub fn most(self) -> Option<u64> {
        match self {
            Readers::On { max_spool } => Some(max_spool),
            Readers::Off => None,
        }
    }
}

/// A configuration that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error(
        "failed to read the controller's configuration {}: {reason}; name one with --config or $BACKSTAY_CONFIG, or \
         make one with `backstay init`", path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// The file is faulty.
    #[error("failed to use the controller's configuration {}:\n\n{report}", path.display())]
    Faulty {
        /// The file.
        path: PathBuf,
        /// Every fault with its source line.
        report: String,
    },
}

/// How often the infra repo is looked at unless the configuration says otherwise.
const DEFAULT_POLL: Duration = Duration::from_secs(60);
/// The branch that is desired unless the configuration says otherwise.
const DEFAULT_BRANCH: &str = "main";
/// See [`Readers`].
const DEFAULT_SPOOL: u64 = 10 << 30;
/// See [`Allow::delete_share`].
const DEFAULT_DELETE_SHARE: f64 = 0.5;

impl Config {
    /// Loads a configuration. Relative paths in it count from its own folder.
    ///
    /// # Errors
    /// [`ConfigError`], with every fault of the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |reason| ConfigError::Read { path: path.to_owned(), reason };
        let absolute = std::path::absolute(path).map_err(unreadable)?;
        let mut content = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(LARGEST_FILE as u64 + 1).read_to_end(&mut content).map_err(unreadable)?;
        let name = path.display().to_string();
        Self::parse(&name, &content, absolute.parent().unwrap_or(Path::new("/"))).map_err(|found| {
            let report = diagnostics::text(&found, &BTreeMap::from([(name, content)]), Palette::Plain);
            ConfigError::Faulty { path: path.to_owned(), report }
        })
    }

    /// Reads the text of the file `name`. Relative paths in it count from `folder`, which is absolute.
    ///
    /// # Errors
    /// Every fault of it.
    pub fn parse(name: &str, content: &[u8], folder: &Path) -> Result<Self, Vec<Diagnostic>> {
        let mut single: Single<schema::Config> = Single::read(name, content, &schema::SCHEMA);
        let mirror = std::mem::take(&mut single.mirror);
        let url = mirror.repo.as_ref().and_then(|repo| repo.url.clone());
        let url = url.map(|Text(Word(url))| RepoUrl::parse(&against(folder, &url)));
        if let Some(Err(invalid)) = &url {
            let hint = "give a folder, or a URL of ssh or https without a password";
            single.error(["repo", "url"], format!("`repo.url` can't be used: {}", invalid.reason), hint);
        }
        for (key, hint) in mirror.repo.iter().flat_map(idle_keys) {
            single.error(["repo", key], format!("`repo.{key}` has no effect"), hint);
        }
        if let Some((message, hint)) = unfit_branch(&mirror) {
            single.error(["runbook", "branch"], message, hint);
        }
        for key in mirror.schedules.iter().flat_map(schedules::misplaced) {
            let message = format!("`schedules.{key}` means nothing to this scheduler");
            single.error(["schedules", key], message, "take it out, or set `schedules.scheduler`");
        }
        let file = folder.join(Path::new(name).file_name().unwrap_or_default());
        let config = url.and_then(Result::ok).and_then(|url| lower(mirror, url, folder, file));
        match (config, single.into_diagnostics()) {
            (Some(config), found) if found.is_empty() => Ok(config),
            (None, found) if found.is_empty() => Err(vec![incomplete(name)]),
            (_, found) => Err(found),
        }
    }
}

/// Where sandboxes are unless the configuration says otherwise: beside the state directory, for other users may have to reach
/// them.
fn beside(state_dir: &Path) -> PathBuf {
    let mut name = state_dir.file_name().unwrap_or_default().to_owned();
    name.push("-sandboxes");
    state_dir.with_file_name(name)
}

/// The configuration, if nothing is missing.
fn lower(mirror: schema::Config, url: RepoUrl, folder: &Path, file: PathBuf) -> Option<Config> {
    let (repo, keys) = (mirror.repo?, mirror.keys?);
    let path = |path: Text<LocalPath>| folder.join(path.0.0);
    let trust = trust_of(&repo, folder);
    let state_dir = path(mirror.state_dir?);
    let drills = mirror.drills.unwrap_or_default();
    let sandboxes = drills.sandbox.map(path);
    Some(Config {
        file,
        isolation: drills.isolation.map_or_else(IsolationMode::default, |isolation| match isolation {
            schema::Isolation::Auto => IsolationMode::Auto,
            schema::Isolation::Bubblewrap => IsolationMode::Bubblewrap,
            schema::Isolation::None => IsolationMode::None,
        }),
        sandboxes: sandboxes.unwrap_or_else(|| beside(&state_dir)),
        state_dir,
        repo: Repo {
            url,
            branch: repo.branch.map_or_else(|| DEFAULT_BRANCH.to_owned(), |branch| branch.0.0),
            path: repo.path.map(|path| path.0.0).unwrap_or_default(),
            poll: repo.poll.map_or(DEFAULT_POLL, |poll| poll.0.0),
            trust,
            approvers: repo.approvers.map(path),
        },
        http: match mirror.http {
            Some(http) => Some(Http {
                listen: http.listen?.0.0,
                webhooks: webhooks_of(http.webhooks.unwrap_or_default(), folder)?,
            }),
            None => None,
        },
        keys: Keys {
            dir: path(keys.dir?),
            trusted: keys.trusted.unwrap_or_default().into_iter().map(|key| key.0.0).collect(),
            identity: keys.identity.map(path),
            must_recipients: keys
                .must_recipients
                .unwrap_or_default()
                .into_iter()
                .map(|recipient| recipient.0.as_str().to_owned())
                .collect(),
        },
        schedules: schedules::schedules_of(mirror.schedules.unwrap_or_default(), folder),
        bounds: bounds_of(&mirror.bounds.unwrap_or_default()),
        readers: readers_of(&mirror.readers.unwrap_or_default()),
        runbook_branch: match mirror.runbook {
            Some(runbook) => Some(runbook.branch?.0.0),
            None => None,
        },
        allow: allow_of(mirror.allow.unwrap_or_default(), folder)?,
    })
}

fn bounds_of(mirror: &schema::Bounds) -> Bounds {
    Bounds { steps: mirror.steps.map(usize::from), per_store: mirror.per_store.map(usize::from) }
}

fn readers_of(mirror: &schema::Readers) -> Readers {
    match mirror.enabled {
        Some(false) => Readers::Off,
        Some(true) | None => {
            Readers::On { max_spool: mirror.max_spool.as_ref().map_or(DEFAULT_SPOOL, |size| size.0.0) }
        }
    }
}

fn webhooks_of(mirror: schema::Webhooks, folder: &Path) -> Option<BTreeMap<Forge, HostSecret>> {
    let secret = |webhook: schema::Webhook| {
        let secret = webhook.secret?;
        Some(match (secret.file, secret.env) {
            (Some(file), _) => HostSecret::File(folder.join(file.0.0)),
            (None, env) => HostSecret::Variable(env?.0.0),
        })
    };
    let declared = [
        (Forge::GitHub, mirror.github),
        (Forge::GitLab, mirror.gitlab),
        (Forge::Gitea, mirror.gitea),
        (Forge::Forgejo, mirror.forgejo),
        (Forge::Bitbucket, mirror.bitbucket),
        (Forge::Git, mirror.git),
    ];
    let present = declared.into_iter().filter_map(|(forge, webhook)| Some((forge, webhook?)));
    present.map(|(forge, webhook)| Some((forge, secret(webhook)?))).collect()
}

/// Why runbooks can't be written to the branch that is named, and what to do.
fn unfit_branch(mirror: &schema::Config) -> Option<(String, &'static str)> {
    let Text(Word(branch)) = mirror.runbook.as_ref()?.branch.as_ref()?;
    let declared = mirror.repo.as_ref().and_then(|repo| repo.branch.as_ref());
    let declared = declared.map_or(DEFAULT_BRANCH, |branch| &branch.0.0);
    // Hosts whose file systems know no case keep branches as files.
    if branch.eq_ignore_ascii_case(declared) {
        let message = "`runbook.branch` is the branch that declares what is desired".to_owned();
        return Some((message, "name a branch of its own, such as `runbooks`"));
    }
    let is_name = git2::Reference::is_valid_name(&format!("refs/heads/{branch}")) && !branch.starts_with('-');
    let message = format!("`runbook.branch` is not the name of a branch: `{}`", branch.escape_debug());
    (!is_name).then_some((message, "such as `runbooks`"))
}

/// What must be signed; nothing, where nobody is named who could.
fn trust_of(repo: &schema::Repo, folder: &Path) -> Option<Policy> {
    let path = |path: &Option<Text<LocalPath>>| path.as_ref().map(|path| folder.join(&path.0.0));
    let (signers, keyring) = (path(&repo.signers), path(&repo.keyring));
    if signers.is_none() && keyring.is_none() {
        return None;
    }
    let mode = match repo.verify {
        None | Some(schema::Verify::Head) => Mode::Head,
        Some(schema::Verify::Every) => Mode::Every,
        Some(schema::Verify::Tag) => {
            Mode::Tag { pattern: repo.tag.as_ref().map_or_else(|| "*".to_owned(), |tag| tag.0.0.clone()) }
        }
    };
    Some(Policy { mode, signers, keyring, web_flow: path(&repo.web_flow) })
}

/// Keys that say something of signatures that nothing verifies.
fn idle_keys(repo: &schema::Repo) -> impl Iterator<Item = (&'static str, &'static str)> {
    let nobody = repo.signers.is_none() && repo.keyring.is_none();
    let no_tags = repo.verify != Some(schema::Verify::Tag);
    [
        ("verify", nobody && repo.verify.is_some()),
        ("web_flow", nobody && repo.web_flow.is_some()),
        ("tag", no_tags && repo.tag.is_some()),
    ]
    .into_iter()
    .filter(|(_, idle)| *idle)
    .map(|(key, _)| match key {
        "tag" => (key, "it counts with verify = \"tag\" only: write that, or take it away"),
        _ => (key, "nobody is named whose signatures count: add signers or keyring"),
    })
}

fn allow_of(allow: schema::Allow, folder: &Path) -> Option<Allow> {
    let paths = |list: Option<Vec<Text<LocalPath>>>| {
        list.unwrap_or_default().into_iter().map(|path| folder.join(path.0.0)).collect()
    };
    let words = |list: Option<Vec<Text<Word>>>| list.unwrap_or_default().into_iter().map(|word| word.0.0);
    let allowance = |secret: schema::Secret| {
        let allowed = match (secret.path, secret.env) {
            (Some(path), _) => Allowed::Path(folder.join(path.0.0)),
            (None, env) => Allowed::Variable(env?.0.0),
        };
        Some(Allowance { secret: allowed, hosts: words(secret.hosts).collect() })
    };
    Some(Allow {
        read: paths(allow.read),
        write: paths(allow.write),
        secrets: allow.secrets.unwrap_or_default().into_iter().map(allowance).collect::<Option<_>>()?,
        mirrors: words(allow.mirrors).map(|url| against(folder, &url)).collect(),
        traffic: allow.traffic.unwrap_or_default().into_iter().map(|listed| listed.0).collect(),
        machines: words(allow.machines).collect(),
        run: words(allow.run).collect(),
        delete_share: allow.delete_share.unwrap_or(DEFAULT_DELETE_SHARE),
    })
}

/// A git URL; one that is a relative path counts from `folder`. As in git, a colon before the first slash makes it no
/// path.
fn against(folder: &Path, url: &str) -> String {
    let is_path = url.split('/').next().is_some_and(|first| !first.contains(':'));
    if is_path { folder.join(url).to_string_lossy().into_owned() } else { url.to_owned() }
}

fn incomplete(name: &str) -> Diagnostic {
    Diagnostic::error("missing-key", "the configuration is incomplete")
        .at(Location { file: name.to_owned(), span: 0..0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
state_dir = "/var/lib/backstay"
[repo]
url = "/srv/git/infra.git"
branch = "trunk"
path = "backup/"
poll = "5m"
signers = "/etc/backstay/allowed_signers"
keyring = "/etc/backstay/keyring.asc"
verify = "tag"
tag = "backup-*"
web_flow = "/etc/backstay/web-flow.asc"
approvers = "/etc/backstay/approvers"
[http]
listen = "127.0.0.1:9180"
[http.webhooks]
github = { secret = { file = "/etc/backstay/secrets/hook" } }
git = { secret = { env = "HOOK" } }
[keys]
dir = "/etc/backstay/keys"
trusted = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIVnMCy81S084WqJgJrgh9RznS2CdSbyRhQYOmfjroqp"]
identity = "/etc/backstay/identity.txt"
must_recipients = ["age1mz893hld2gl76fjq3qawwlwjvkze8kezax6x0crg04cwcqq63feqtxzxlm"]
[schedules]
scheduler = "systemd"
user = "backstay"
on_failure = "alert@%n.service"
[bounds]
steps = 4
[readers]
max_spool = "2GiB"
[allow]
read = ["/srv", "/etc/ansible"]
write = ["/srv/restore"]
secrets = [
  { path = "/etc/backstay/secrets/agama", hosts = ["pavroto-2"] },
  { env = "OFFSITE", hosts = ["s3.eu-north-1.amazonaws.com"] },
]
mirrors = ["ssh://git@backup.pavroto.ttu/"]
run = ["pass"]
delete_share = 0.25
"#;

    fn parse(text: &str) -> Result<Config, Vec<Diagnostic>> {
        Config::parse("backstay.toml", text.as_bytes(), Path::new("/home/me/fleet"))
    }

    fn codes(text: &str) -> Vec<&'static str> {
        parse(text).unwrap_err().into_iter().map(|found| found.code).collect()
    }

    #[test]
    fn every_key_of_a_whole_configuration_is_read() {
        let config = parse(WHOLE).unwrap();
        assert_eq!(config.repo.path, "backup");
        assert_eq!(config.repo.poll, Duration::from_secs(300));
        let http = config.http.unwrap();
        assert_eq!(http.listen.port(), 9180);
        let file = HostSecret::File("/etc/backstay/secrets/hook".into());
        let hook = HostSecret::Variable("HOOK".to_owned());
        assert_eq!(http.webhooks, BTreeMap::from([(Forge::GitHub, file), (Forge::Git, hook)]));
        let trust = config.repo.trust.unwrap();
        assert_eq!(trust.mode, Mode::Tag { pattern: "backup-*".to_owned() });
        assert_eq!(trust.signers, Some(PathBuf::from("/etc/backstay/allowed_signers")));
        assert_eq!(trust.keyring, Some(PathBuf::from("/etc/backstay/keyring.asc")));
        assert_eq!(trust.web_flow, Some(PathBuf::from("/etc/backstay/web-flow.asc")));
        assert_eq!(config.repo.approvers, Some(PathBuf::from("/etc/backstay/approvers")));
        let host = Host { folder: None, user: "backstay".into(), program: None };
        let on_failure = Some("alert@%n.service".to_owned());
        assert_eq!(config.schedules, Schedules::Systemd { host, on_failure });
        assert_eq!(config.bounds, Bounds { steps: Some(4), per_store: None });
        assert_eq!(config.readers, Readers::On { max_spool: 2 << 30 });
        assert_eq!(config.keys.trusted.len(), 1);
        assert_eq!(config.allow.read, [PathBuf::from("/srv"), PathBuf::from("/etc/ansible")]);
        assert_eq!(config.allow.secrets[1].secret, Allowed::Variable("OFFSITE".to_owned()));
        assert_eq!(config.allow.mirrors, ["ssh://git@backup.pavroto.ttu/"]);
        assert_eq!(config.allow.delete_share, 0.25);
    }

    #[test]
    fn what_is_left_out_has_its_default_and_nothing_is_allowed() {
        let config = parse("state_dir = \"/s\"\nrepo.url = \"/r\"\nkeys.dir = \"/k\"\n").unwrap();
        assert_eq!((config.repo.branch.as_str(), config.repo.path.as_str()), ("main", ""));
        assert_eq!((config.repo.poll, config.http), (DEFAULT_POLL, None));
        assert_eq!(config.readers.most(), Some(DEFAULT_SPOOL));
        let off =
            parse("state_dir = \"/s\"\nrepo.url = \"/r\"\nkeys.dir = \"/k\"\nreaders.enabled = false\n");
        assert_eq!(off.unwrap().readers.most(), None);
        assert_eq!(config.allow, allow_of(schema::Allow::default(), Path::new("/")).unwrap());
        assert!(
            config.allow.read.is_empty() && config.allow.secrets.is_empty() && config.allow.run.is_empty()
        );
    }

    #[test]
    fn with_signers_the_tip_is_verified_and_keys_without_effect_are_refused() {
        let minimal = "state_dir = \"/s\"\nrepo.url = \"/r\"\nkeys.dir = \"/k\"\n";
        let with = |line: &str| format!("{minimal}{line}\n");
        assert_eq!(parse(minimal).unwrap().repo.trust, None);
        let trust = parse(&with("repo.signers = \"allowed\"")).unwrap().repo.trust.unwrap();
        assert_eq!((trust.mode, trust.signers), (Mode::Head, Some(PathBuf::from("/home/me/fleet/allowed"))));
        for idle in
            ["repo.verify = \"head\"", "repo.web_flow = \"x\"", "repo.keyring = \"k\"\nrepo.tag = \"v*\""]
        {
            assert_eq!(codes(&with(idle)), ["invalid-value"], "{idle}");
        }
        assert!(parse(&with("repo.keyring = \"k\"\nrepo.verify = \"often\"")).is_err());
    }

    #[test]
    fn relative_paths_count_from_the_folder_of_the_file() {
        let text =
            "state_dir = \"state\"\nrepo.url = \"infra\"\nkeys.dir = \"keys\"\nallow.read = [\"data\"]\n";
        let config = parse(text).unwrap();
        assert_eq!(config.state_dir, Path::new("/home/me/fleet/state"));
        assert_eq!(config.repo.url.local(), Some(Path::new("/home/me/fleet/infra")));
        assert_eq!(config.allow.read, [Path::new("/home/me/fleet/data")]);
        let remote = parse(&text.replace("\"infra\"", "\"git@example.org:infra.git\"")).unwrap();
        assert_eq!(remote.repo.url.as_str(), "git@example.org:infra.git");
    }

    #[test]
    fn every_fault_is_found_at_once() {
        let text = "state_dri = \"/s\"\n[repo]\nurl = \"ext::evil\"\npoll = \"often\"\n[keys]\ndir = \"../keys\"\n\
                    must_recipients = [\"age1x\"]\n[allow]\nread = \"/srv\"\nsecrets = [{ path = \"/s\" }]\n\
                    delete_share = 2\n";
        let mut found = codes(text);
        found.sort_unstable();
        assert_eq!(
            found,
            [
                "invalid-value",
                "invalid-value",
                "invalid-value",
                "invalid-value",
                "missing-key",
                "missing-key",
                "path-escapes",
                "unknown-key",
                "wrong-type"
            ]
        );
    }

    #[test]
    fn a_webhook_needs_exactly_one_secret_that_is_none_itself() {
        let with = |webhooks: &str| {
            let text =
                WHOLE.replace("github = { secret = { file = \"/etc/backstay/secrets/hook\" } }", webhooks);
            assert_ne!(text, WHOLE);
            codes(&text)
        };
        assert_eq!(with("github = {}"), ["missing-key"]);
        assert_eq!(with("github = { secret = {} }"), ["choose-one"]);
        assert_eq!(with("github = { secret = { file = \"/a\", env = \"A\" } }"), ["choose-one"]);
        assert_eq!(with("github = { secret = \"hunter2\" }"), ["wrong-type"]);
        assert_eq!(with("githup = { secret = { env = \"A\" } }"), ["unknown-key"]);
    }

    #[test]
    fn a_file_that_is_missing_or_faulty_is_told_with_what_to_do() {
        let missing = Config::load(Path::new("/nonexistent/backstay.toml")).unwrap_err().to_string();
        assert!(missing.contains("--config") && missing.contains("backstay init"), "{missing}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("backstay.toml");
        std::fs::write(&file, WHOLE.replace("poll", "pol")).unwrap();
        let faulty = Config::load(&file).unwrap_err().to_string();
        assert!(faulty.contains("did you mean `poll`?") && faulty.contains("pol = \"5m\""), "{faulty}");
        std::fs::write(&file, WHOLE).unwrap();
        assert_eq!(Config::load(&file).unwrap(), Config { file, ..parse(WHOLE).unwrap() });
    }
}
