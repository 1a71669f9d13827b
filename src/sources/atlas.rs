//! A cluster of MongoDB Atlas, as Atlas keeps it (Cloud Backup): there is no stream, and its artifacts are Atlas's own snapshots. What
//! the databases in it hold, the driver of MongoDB captures.
//!
//! ```text
//! api (asks, within bounds) ─ tokens · wire (what is said) · failure (what went wrong)
//! provider (schedule, window, snapshots) · restore (into other clusters) · download (into a file)
//! ```

mod api;
mod download;
mod failure;
mod provider;
mod restore;
mod tokens;
mod wire;

use std::collections::BTreeSet;

use async_trait::async_trait;
use tokio::io::AsyncRead;

use super::{CaptureRequest, Captured, Lack, Place, Probe, Provider, Restored, Sink, Source, SourceError};
use crate::{artifact::Kind, secrets::Secret};
use api::Api;
use failure::Failure;
pub use tokens::Tokens;
use wire::{Cluster, Snapshot};

/// The role that whatever is asked here needs ("Atlas User Roles" of the guide).
const ROLE: &str = "Project Backup Manager";

/// The role that switching continuous backup on and off needs besides.
const CLUSTER_ROLE: &str = "Project Cluster Manager";

/// How a cluster is reached.
#[derive(Clone, Debug)]
pub struct AtlasOptions {
    /// Where the Admin API is, without a slash at its end.
    pub url: String,
    /// The project's id.
    pub project: String,
    /// The cluster's name.
    pub cluster: String,
    /// The public half of the service account.
    pub client_id: Secret,
    /// Its secret half.
    pub client_secret: Secret,
    /// What accounts were let in with before: shared by all that ask on this host.
    pub tokens: Tokens,
}

/// One cluster.
#[derive(Clone, Debug)]
pub struct AtlasSource {
    api: Api,
    cluster: String,
}

impl AtlasSource {
    /// The cluster that `options` name. Connects when it is first used; fails where secrets would go over an open line.
    pub fn new(options: AtlasOptions) -> Result<Self, SourceError> {
        let cluster = options.cluster.clone();
        let api = Api::new(options).map_err(|failure| failure.explain("use", subject(&cluster)))?;
        Ok(Self { api, cluster })
    }

    fn told<T>(&self, operation: &'static str, answer: Result<T, Failure>) -> Result<T, SourceError> {
        answer.map_err(|failure| failure.explain(operation, subject(&self.cluster)))
    }

    /// The cluster as Atlas describes it, of a kind that this driver looks after.
    async fn described(&self) -> Result<Cluster, Failure> {
        let cluster = self.api.cluster(&self.cluster).await?;
        cluster.looked_after()?;
        Ok(cluster)
    }

    /// A snapshot; `None` where Atlas has its cluster, and says that there is no such snapshot of it.
    async fn snapshot(&self, at: &Reference) -> Result<Option<Snapshot>, Failure> {
        match self.api.snapshot(&at.cluster, &at.id).await? {
            Some(snapshot) => Ok(Some(snapshot)),
            // A project or a cluster that is not found is answered alike, and tells nothing about its snapshots.
            None => self.api.cluster(&at.cluster).await?.looked_after().map(|()| None),
        }
    }

    /// Where a snapshot of the declared cluster is.
    fn own(&self, id: &str) -> Reference {
        Reference { cluster: self.cluster.clone(), id: id.to_owned() }
    }

    /// Reads what a manifest says. One of another project can't be asked for by this account, and is neither there nor gone.
    fn referred(&self, text: &str) -> Result<Reference, Failure> {
        let unreadable = || Failure::Refused(format!("`{}` names no snapshot of Atlas", text.escape_debug()));
        let (project, rest) = text.split_once('/').ok_or_else(unreadable)?;
        let (cluster, id) = rest.split_once('/').ok_or_else(unreadable)?;
        if project != self.api.project() {
            return Err(Failure::Refused(format!(
                "snapshot {id} is in project {}, and another one is declared now",
                project.escape_debug()
            )));
        }
        if !is_cluster_name(cluster) {
            return Err(unreadable());
        }
        Ok(Reference { cluster: cluster.to_owned(), id: id.to_owned() })
    }

    /// What a manifest says of a snapshot: `PROJECT/CLUSTER/ID`, for Atlas tells of a snapshot only where its cluster is told.
    fn reference(&self, at: &Reference) -> String {
        format!("{}/{}/{}", self.api.project(), at.cluster, at.id)
    }

    async fn lacking(&self) -> Result<Vec<Lack>, Failure> {
        let mut denied = Vec::new();
        let asked = [
            (self.described().await.map(drop), "to see the cluster"),
            (self.api.schedule(&self.cluster).await.map(drop), "to see its backup schedule"),
            (self.api.snapshots(&self.cluster).await.map(drop), "to list its snapshots"),
        ];
        for (answer, what) in asked {
            match answer {
                Err(failure) if failure.is_denial() => denied.push(what),
                answer => answer?,
            }
        }
        if denied.is_empty() {
            return Ok(Vec::new());
        }
        let what = format!("the service account is not allowed {}", denied.join(", "));
        Ok(vec![Lack::error(what, format!("give it the role {ROLE} in the project"))])
    }
}

/// Where a snapshot is, in the declared project.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reference {
    /// The cluster that it was taken of, which may be another one than is declared now.
    cluster: String,
    id: String,
}

fn subject(cluster: &str) -> String {
    format!("cluster {cluster} of Atlas")
}

/// Whether Atlas could have given this name to a cluster: of letters, digits and hyphens.
fn is_cluster_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[async_trait]
impl Source for AtlasSource {
    async fn probe(&self) -> Result<Probe, SourceError> {
        let cluster = self.told("probe", self.described().await)?;
        let kept = if cluster.pit_enabled { "on" } else { "off" };
        let version = cluster.mongo_db_version.as_deref().unwrap_or("of an unknown version");
        Ok(Probe { version: format!("MongoDB {version} on Atlas, point-in-time recovery {kept}") })
    }

    async fn lacks(&self, _kinds: &BTreeSet<Kind>) -> Result<Vec<Lack>, SourceError> {
        self.told("probe", self.lacking().await)
    }

    fn provider(&self) -> Option<&dyn Provider> {
        Some(self)
    }

    fn stream_name(&self) -> String {
        self.cluster.clone()
    }

    async fn capture(
        &self,
        request: &CaptureRequest<'_>,
        _sink: &mut dyn Sink,
    ) -> Result<Captured, SourceError> {
        Err(SourceError::unsupported(&subject(&self.cluster), request.kind))
    }

    async fn restore(
        &self,
        _stream: &mut (dyn AsyncRead + Send + Unpin),
        _place: &Place,
    ) -> Result<Restored, SourceError> {
        Err(SourceError::misplaced(&subject(&self.cluster), "its artifacts are snapshots, and no streams"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_tells_the_place_and_none_of_another_project_is_asked_for() {
        let secret = |text: &str| Secret::new(text.to_owned());
        let source = AtlasSource::new(AtlasOptions {
            url: "https://cloud.mongodb.com".to_owned(),
            project: "p1".to_owned(),
            cluster: "courses".to_owned(),
            client_id: secret("id"),
            client_secret: secret("secret"),
            tokens: Tokens::default(),
        })
        .unwrap();
        let own = source.own("64b31e47c40e886d5ea00001");
        let text = source.reference(&own);
        assert_eq!(text, "p1/courses/64b31e47c40e886d5ea00001");
        assert_eq!(source.referred(&text).unwrap(), own);
        let before = source.referred("p1/before/64b31e47c40e886d5ea00001").unwrap();
        assert_eq!(before.cluster, "before", "it is asked for where it was made");
        for bad in ["", "64b31e47c40e886d5ea00001", "p2/courses/64b31e47c40e886d5ea00001", "p1/../x", "p1//x"]
        {
            assert!(matches!(source.referred(bad), Err(Failure::Refused(_))), "{bad}");
        }
    }
}
