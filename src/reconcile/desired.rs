//! Which revision is in force: the newest one, unless it is bad or held; then the last good one.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    diagnostic::Diagnostic,
    git::{Declaration, Mirror, MirrorError, Revision, RevisionError},
    spec::{Recipient, Spec, parse::parse},
    state::InForce,
};

/// How many commits are looked at for a last good one, where the state directory does not know it.
const MOST_COMMITS: usize = 1000;

/// What the host demands of every revision.
#[derive(Clone, Debug, Default)]
pub struct Demands {
    /// The folder of the infra repo that is read.
    pub folder: String,
    /// The branch that is watched.
    pub branch: String,
    /// age public keys that must stay among the recipients.
    pub must_recipients: Vec<String>,
    /// The rewritten tip that a person has accepted.
    pub accepted: Option<String>,
}

/// The revision in force, and what stands between it and the newest one.
#[derive(Clone, Debug)]
pub struct Desired {
    /// What is declared.
    pub spec: Arc<Spec>,
    /// By which commit.
    pub revision: Revision,
    /// Warnings about it.
    pub warnings: Vec<Diagnostic>,
    /// Why the newest revision is not the one in force; `None` when it is.
    pub obstacle: Option<Obstacle>,
    /// The revision that was in force before and can't be read any more, where an older one stands in for it: under such
    /// a one nothing is deleted, for its retention may be another.
    pub stands_in_for: Option<String>,
}

/// Why the newest revision is not in force.
#[derive(Clone, Debug)]
pub enum Obstacle {
    /// It has faults.
    Bad(Box<Bad>),
    /// Nothing could be read from it, or there is none.
    Unreadable {
        /// The commit, as far as it is known.
        revision: Option<String>,
        /// Why.
        reason: String,
    },
    /// The branch was rewritten: what was in force is not in its history. Held until a person accepts it.
    Rewritten {
        /// The branch's tip.
        revision: String,
        /// The revision in force, which the branch has lost.
        from: String,
    },
}

/// A revision with faults.
#[derive(Clone, Debug)]
pub struct Bad {
    /// The commit.
    pub revision: Revision,
    /// Its faults and warnings.
    pub diagnostics: Vec<Diagnostic>,
    /// The files that they point into.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Desired {
    /// The newest revision, as far as it is known.
    pub fn newest(&self) -> Option<&str> {
        self.obstacle.as_ref().map_or(Some(&self.revision.id), Obstacle::revision)
    }
}

impl Obstacle {
    /// The newest commit, as far as it is known.
    pub fn revision(&self) -> Option<&str> {
        match self {
            Obstacle::Bad(bad) => Some(&bad.revision.id),
            Obstacle::Unreadable { revision, .. } => revision.as_deref(),
            Obstacle::Rewritten { revision, .. } => Some(revision),
        }
    }
}

/// For people: what stands in the way, and what to do.
impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Obstacle::Bad(bad) => {
                let first = bad.diagnostics.iter().find(|d| d.severity == crate::diagnostic::Severity::Error);
                let first = first.map_or("it declares nothing", |d| &d.message);
                let short = short(&bad.revision.id);
                write!(f, "revision {short} is bad: {first}; commit a correction")
            }
            Obstacle::Unreadable { reason, .. } => f.write_str(reason),
            Obstacle::Rewritten { revision, from } => write!(
                f,
                "the branch was rewritten: revision {} is not in the history of {}, which is held; look at both, then \
                 run `backstay apply --accept-rewrite {revision}`, or push the branch as it was",
                short(from),
                short(revision)
            ),
        }
    }
}

/// Enough of a commit's id for people.
fn short(id: &str) -> &str {
    id.get(..10).unwrap_or(id)
}

/// Why no revision is in force at all, or not the one that a person accepts.
#[derive(Debug, thiserror::Error)]
pub enum NothingInForce {
    /// The infra repo never had a readable commit.
    #[error(transparent)]
    NoRevision(MirrorError),
    /// No commit of the branch can be in force.
    #[error("failed to find a good revision: {0}")]
    NoneGood(Obstacle),
    /// A person accepts another revision than the one that is held.
    #[error(
        "failed to accept {asked}: the revision that is held is {held}; look at it, then run `backstay apply --accept-rewrite {held}`"
    )]
    OtherHeld {
        /// What was to be accepted.
        asked: String,
        /// What is held.
        held: String,
    },
    /// A person accepts a rewrite, and there is none.
    #[error(
        "failed to accept {asked}: no revision is held, and the branch is at {tip}; leave out `--accept-rewrite`"
    )]
    NoneHeld {
        /// What was to be accepted.
        asked: String,
        /// The branch's tip.
        tip: String,
    },
}

/// Finds the revision in force. `known` is the one that was in force before.
pub async fn desired(
    mirror: &Mirror,
    demands: &Demands,
    known: Option<InForce>,
) -> Result<Desired, NothingInForce> {
    let known = known.filter(|known| known.branch == demands.branch).map(|known| known.revision);
    let newest = match (mirror.desired().await, &known) {
        (Ok(newest), _) => newest,
        (Err(error), None) => return Err(NothingInForce::NoRevision(error)),
        (Err(error), Some(known)) => {
            let obstacle = Obstacle::Unreadable { revision: None, reason: error.to_string() };
            return last_good(mirror, demands, known, obstacle, Some(known)).await;
        }
    };
    let rewritten = match &known {
        Some(from) => !mirror.leads_to(from, &newest).await,
        None => false,
    };
    if let Some(asked) = demands.accepted.clone().filter(|asked| *asked != newest) {
        return Err(match rewritten {
            true => NothingInForce::OtherHeld { asked, held: newest },
            false => NothingInForce::NoneHeld { asked, tip: newest },
        });
    }
    if let Some(from) = &known
        && rewritten
        && demands.accepted.is_none()
    {
        let obstacle = Obstacle::Rewritten { revision: newest, from: from.clone() };
        return last_good(mirror, demands, from, obstacle, Some(from)).await;
    }
    match read(mirror, demands, &newest).await {
        Ok(good) => Ok(good),
        Err(obstacle) => {
            last_good(mirror, demands, known.as_ref().unwrap_or(&newest), obstacle, known.as_deref()).await
        }
    }
}

/// The newest good revision on the line that ends in `from`; `known` is the one that was in force before.
async fn last_good(
    mirror: &Mirror,
    demands: &Demands,
    from: &str,
    obstacle: Obstacle,
    known: Option<&str>,
) -> Result<Desired, NothingInForce> {
    for id in mirror.line(from, MOST_COMMITS).await {
        if obstacle.revision() == Some(id.as_str()) {
            continue;
        }
        if let Ok(good) = read(mirror, demands, &id).await {
            let stands_in_for = known.filter(|known| *known != id).map(str::to_owned);
            return Ok(Desired { obstacle: Some(obstacle), stands_in_for, ..good });
        }
    }
    Err(NothingInForce::NoneGood(obstacle))
}

async fn read(mirror: &Mirror, demands: &Demands, id: &str) -> Result<Desired, Obstacle> {
    let declaration = mirror.declaration(id, &demands.folder).await.map_err(|error: RevisionError| {
        Obstacle::Unreadable { revision: Some(id.to_owned()), reason: error.to_string() }
    })?;
    judge(declaration, &demands.must_recipients)
}

/// Whether a revision may come into force.
fn judge(declaration: Declaration, must_recipients: &[String]) -> Result<Desired, Obstacle> {
    let Declaration { revision, files } = declaration;
    let parsed = parse(&files);
    let mut diagnostics = parsed.diagnostics;
    let refusals = parsed.spec.as_ref().map_or_else(Vec::new, |spec| refusals(spec, must_recipients));
    match parsed.spec {
        Some(spec) if refusals.is_empty() => Ok(Desired {
            spec: Arc::new(spec),
            revision,
            warnings: diagnostics,
            obstacle: None,
            stands_in_for: None,
        }),
        _ => {
            diagnostics.extend(refusals);
            Err(Obstacle::Bad(Box::new(Bad { revision, diagnostics, files })))
        }
    }
}

/// What the host refuses in a declaration that is sound by itself.
fn refusals(spec: &Spec, must_recipients: &[String]) -> Vec<Diagnostic> {
    let mut refusals = Vec::new();
    if spec.backups.is_empty() {
        refusals.push(Diagnostic::error("no-backups", "the revision declares no backup at all").hint(
            "such a revision never replaces one that does; to end the protection, stop the controller",
        ));
    }
    let fleet = std::iter::once(("the fleet".to_owned(), &spec.fleet.recipients));
    let stores = spec.stores.values().filter_map(|store| {
        store.recipients.as_ref().map(|recipients| (format!("store `{}`", store.name), recipients))
    });
    for (whose, recipients) in fleet.chain(stores) {
        for missing in must_recipients.iter().filter(|key| !names(recipients, key)) {
            refusals.push(
                Diagnostic::error("must-recipients", format!("{whose} lacks the recipient {missing}"))
                    .hint("this host's keys.must_recipients demands it: add it to the recipients"),
            );
        }
    }
    refusals
}

fn names(recipients: &[Recipient], key: &str) -> bool {
    recipients.iter().any(|recipient| recipient.as_str() == key)
}
