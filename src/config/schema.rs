//! The configuration's format: a mirror of its TOML; see [`crate::spec::schema`] for how mirrors work.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::Deserialize;

use super::allow::Switchable;
use crate::spec::{
    Recipient,
    schema::schema_of,
    values::{Address, InnerPath, Length, LocalPath, Size, SshKey, Text, Word},
};

pub(super) static SCHEMA: LazyLock<serde_json::Value> = LazyLock::new(schema_of::<Config>);

/// The controller's own configuration.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// A cache: everything in it comes back by itself.
    #[schemars(required)]
    pub state_dir: Option<Text<LocalPath>>,
    /// The infra repo.
    #[schemars(required)]
    pub repo: Option<Repo>,
    /// Where health and metrics are served and webhooks taken. Default: nowhere.
    pub http: Option<Http>,
    /// Keys of the controller.
    #[schemars(required)]
    pub keys: Option<Keys>,
    /// Where schedules are armed. Default: in the controller's own timetable, which `backstay run` watches.
    pub schedules: Option<Schedules>,
    /// How drills are made.
    pub drills: Option<Drills>,
    /// How much is done at a time.
    pub bounds: Option<Bounds>,
    /// How logs are read as they are written, by `backstay run`.
    pub readers: Option<Readers>,
    /// Where runbooks are kept up to date. Default: nowhere.
    pub runbook: Option<Runbook>,
    /// What a commit may make this host do; everything else is refused.
    pub allow: Option<Allow>,
}

/// Where runbooks are kept up to date.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Runbook {
    /// The branch of the infra repo that they are committed and pushed to, which nobody else may write; never `repo.branch`.
    #[schemars(required)]
    pub branch: Option<Text<Word>>,
}

/// Where schedules are armed.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Schedules {
    /// Who starts what is due. Default: `controller`.
    pub scheduler: Option<SchedulerKind>,
    /// The folder of its files. Default: `/etc/cron.d` or `/etc/systemd/system`.
    pub folder: Option<Text<LocalPath>>,
    /// The user that runs are made as. Default: `root`.
    pub user: Option<Text<Word>>,
    /// The program that is started. Default: the one that arms the schedules.
    pub program: Option<Text<LocalPath>>,
    /// cron: who gets what a run says on stderr. Default: the user.
    pub mail_to: Option<Text<Word>>,
    /// systemd: the unit that is started when a run fails. Default: none.
    pub on_failure: Option<Text<Word>>,
}

/// Who starts what is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SchedulerKind {
    /// `backstay run`, by its own timetable.
    Controller,
    /// cron, by files in a folder such as `/etc/cron.d`.
    Cron,
    /// systemd, by timers.
    Systemd,
}

/// How drills are made.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Drills {
    /// The folder that they make their sandboxes in. Default: beside `state_dir`, its name with `-sandboxes` at its end.
    pub sandbox: Option<Text<LocalPath>>,
    /// How the programs of sandboxes are kept apart from this host. Default: `auto`.
    pub isolation: Option<Isolation>,
}

/// How the programs of sandboxes are kept apart from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Isolation {
    /// By bubblewrap where it works, else without a network where Backstay runs as root, else by their settings.
    Auto,
    /// By bubblewrap; where it does not work the drill could not run.
    Bubblewrap,
    /// By their settings only.
    None,
}

/// How much is done at a time.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Bounds {
    /// Steps at a time. Default: 10; with several fleets in one process an equal part of that, but not less than 4.
    #[schemars(range(min = 1, max = 1000))]
    pub steps: Option<u16>,
    /// Steps at a time that use one store. Default: 6; with several fleets in one process 4.
    #[schemars(range(min = 1, max = 1000))]
    pub per_store: Option<u16>,
}

/// How logs are read as they are written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Readers {
    /// Whether they are. Default: `true`.
    pub enabled: Option<bool>,
    /// The most that is kept in `state_dir` of one backup's log until every store has it. Default: `10GiB`.
    pub max_spool: Option<Text<Size>>,
}

/// The infra repo.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Repo {
    /// A folder, or a URL of ssh, https or file.
    #[schemars(required)]
    pub url: Option<Text<Word>>,
    /// The branch whose tip is desired. Default: `main`.
    pub branch: Option<Text<Word>>,
    /// Only this folder of the repo is read. Default: all of it.
    pub path: Option<Text<InnerPath>>,
    /// How often it is looked at when nothing else tells of a change. Default: `1m`.
    pub poll: Option<Text<Length>>,
    /// Who may sign commits: a file in the format of `allowed_signers` (ssh-keygen(1)). Default: anyone.
    pub signers: Option<Text<LocalPath>>,
    /// Who may sign commits: a file of OpenPGP public keys, armored or binary.
    pub keyring: Option<Text<LocalPath>>,
    /// What must be signed: `head`, the tip of the branch; `tag`, the tag that names the revision; `every`, each commit
    /// since the revision in force. Default: `head`, where there are signers or a keyring.
    pub verify: Option<Verify>,
    /// With `verify = "tag"`: the names of the tags that count, with `*` and `?`. Default: all.
    pub tag: Option<Text<Word>>,
    /// Keys that count for merges only, as signers or as a keyring: those of the host whose web page merges.
    pub web_flow: Option<Text<LocalPath>>,
    /// Whose commits may approve, in `approve.toml`, what a safety rule holds back: a file of signers or a keyring. Default:
    /// nobody's.
    pub approvers: Option<Text<LocalPath>>,
}

/// What must be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verify {
    Head,
    Tag,
    Every,
}

/// Where health and metrics are served and webhooks taken.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    /// Address and port.
    #[schemars(required)]
    pub listen: Option<Text<Address>>,
    /// Who may tell the controller to look. Default: nobody.
    pub webhooks: Option<Webhooks>,
}

/// Who may tell the controller to look, at `/hooks/` and the name here.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Webhooks {
    /// GitHub.
    pub github: Option<Webhook>,
    /// GitLab.
    pub gitlab: Option<Webhook>,
    /// Gitea.
    pub gitea: Option<Webhook>,
    /// Forgejo.
    pub forgejo: Option<Webhook>,
    /// Bitbucket.
    pub bitbucket: Option<Webhook>,
    /// A plain Git server, by the hook of `backstay hook install`.
    pub git: Option<Webhook>,
}

/// How a webhook proves who it is.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Webhook {
    /// The secret that was given to the forge as well.
    #[schemars(required)]
    pub secret: Option<HostSecret>,
}

/// A secret of this host: exactly one of `file` and `env`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["file"] }, { "required": ["env"] }]))]
pub(super) struct HostSecret {
    /// A file that nobody but the controller's user can read.
    pub file: Option<Text<LocalPath>>,
    /// A variable of the controller's environment.
    pub env: Option<Text<Word>>,
}

/// Keys of the controller.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    /// The folder of the signing key and the naming key, made at first start.
    #[schemars(required)]
    pub dir: Option<Text<LocalPath>>,
    /// Public signing keys of earlier controllers.
    pub trusted: Option<Vec<Text<SshKey>>>,
    /// The file of the age identity, for restores, drills and plaintext checks. Backups do not need it.
    pub identity: Option<Text<LocalPath>>,
    /// age public keys: a commit that drops one never comes into force.
    pub must_recipients: Option<Vec<Text<Recipient>>>,
}

/// What a commit may make this host do.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Allow {
    /// Folders and files that sources may read.
    pub read: Option<Vec<Text<LocalPath>>>,
    /// Folders that local stores and restores may write.
    pub write: Option<Vec<Text<LocalPath>>>,
    /// Secrets, each bound to the hosts that it may be sent to.
    pub secrets: Option<Vec<Secret>>,
    /// Beginnings of git URLs that may be pushed to.
    pub mirrors: Option<Vec<Text<Word>>>,
    /// What machines may be made by: hypervisors by their URIs (`qemu:///system`), regions of clouds
    /// (`cloudformation:eu-north-1`). Whoever may make machines there may read and change what is there.
    pub machines: Option<Vec<Text<Word>>>,
    /// What recoveries may switch: single records of DNS (`www.example.org`), zones with all of their records (`zone:example.org`), and
    /// listeners and their rules by ARN.
    pub traffic: Option<Vec<Text<Switchable>>>,
    /// Programs that secrets, hooks and recovery steps may start.
    pub run: Option<Vec<Text<Word>>>,
    /// The largest share of a backup's artifacts in a store that may go within 24 hours. Default: 0.5.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub delete_share: Option<f64>,
}

/// A secret that a commit may use: exactly one of `path` and `env`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["path"] }, { "required": ["env"] }]))]
pub(super) struct Secret {
    /// A file, or a folder of such files.
    pub path: Option<Text<LocalPath>>,
    /// A variable of the controller's environment.
    pub env: Option<Text<Word>>,
    /// Hosts, as declarations name them; `localhost` for sockets.
    #[schemars(required, length(min = 1))]
    pub hosts: Option<Vec<Text<Word>>>,
}
