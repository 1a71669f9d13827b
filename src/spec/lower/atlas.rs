//! A cluster of Atlas, and the snapshots that it is to make by itself.

use std::collections::BTreeSet;

use super::{Lower, below, store::secret, word};
use crate::spec::{
    Atlas, Protection, ServiceAccount, SnapshotFrequency, SnapshotRule, places::Path, schema, values::Text,
};

/// Where Atlas's own Admin API is ("Servers" of its reference).
const ATLAS: &str = "https://cloud.mongodb.com";

/// The longest name that Atlas gives to a cluster ("ClusterDescription20240805", `name`).
const LONGEST_NAME: usize = 64;

impl Lower<'_> {
    pub(super) fn atlas(&mut self, at: &Path, atlas: schema::Atlas) -> Option<Atlas> {
        let schema::Atlas { project, cluster, url, client_id, client_secret, .. } = atlas;
        let snapshots = atlas.snapshots.map(|rules| self.snapshots(&below(at, ["snapshots"]), rules));
        let (project, cluster) = (word(project), word(cluster));
        if project.as_deref().is_some_and(|project| !is_project(project)) {
            let message = "`project` is not the id of a project".to_owned();
            let hint = "it is of 24 hexadecimal digits: see the project's settings in Atlas";
            self.error("invalid-value", &below(at, ["project"]), message, hint);
        }
        if cluster.as_deref().is_some_and(|cluster| !is_cluster(cluster)) {
            let message = "`cluster` is not the name of a cluster".to_owned();
            let hint = "it is of letters, digits and hyphens, as Atlas shows it";
            self.error("invalid-value", &below(at, ["cluster"]), message, hint);
        }
        Some(Atlas {
            url: url.map_or_else(|| ATLAS.to_owned(), |url| url.0.0.trim_end_matches('/').to_owned()),
            project: project?,
            cluster: cluster?,
            account: ServiceAccount {
                client_id: secret(client_id?)?,
                client_secret: secret(client_secret?)?,
            },
            protection: Protection {
                point_in_time: atlas.point_in_time.map(|Text(point_in_time)| point_in_time),
                backup_window: None,
                snapshots,
                snapshot_time: atlas.snapshot_time.map(|Text(time)| time),
            },
        })
    }

    /// What Atlas has once at most is declared once at most, and nothing is declared twice.
    fn snapshots(&mut self, at: &Path, rules: Vec<Text<SnapshotRule>>) -> BTreeSet<SnapshotRule> {
        let mut all: BTreeSet<SnapshotRule> = BTreeSet::new();
        for (number, Text(rule)) in rules.into_iter().enumerate() {
            let same = |other: &SnapshotRule| match rule.frequency() {
                SnapshotFrequency::Hourly | SnapshotFrequency::Daily => other.frequency() == rule.frequency(),
                _ => (other.frequency(), other.interval()) == (rule.frequency(), rule.interval()),
            };
            if let Some(first) = all.iter().find(|other| same(other)) {
                let message = format!("`{rule}` is made beside `{first}`, and Atlas has one of them only");
                self.error("duplicate", &below(at, [&number.to_string()]), message, "leave one out");
            } else {
                all.insert(rule);
            }
        }
        all
    }
}

fn is_project(text: &str) -> bool {
    text.len() == 24 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_cluster(text: &str) -> bool {
    text.len() <= LONGEST_NAME
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
