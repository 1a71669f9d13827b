//! Which revision is in force: the newest one, unless it is bad or held; then the last good one.

use std::{collections::BTreeMap, sync::Arc};

use super::approve::ByCommit;
use crate::{
    artifact::record::Signer,
    diagnostic::Diagnostic,
    git::{Declaration, Lost, Mirror, MirrorError, Revision, RevisionError, Trust},
    spec::{Recipient, Spec, approvals::Approval, declared, parse::parse},
    state::InForce,
};

/// How many commits are looked at for a last good one, where the state directory does not know it.
const MOST_COMMITS: usize = 1000;

/// What the host demands of every revision.
#[derive(Clone, Debug)]
pub struct Demands {
    /// The folder of the infra repo that is read.
    pub folder: String,
    /// The branch that is watched.
    pub branch: String,
    /// age public keys that must stay among the recipients.
    pub must_recipients: Vec<String>,
    /// Whose signatures a revision needs.
    pub verification: Verification,
    /// The rewrite of the branch that a person has approved: from the revision in force, to that tip.
    pub approved: Option<(String, String)>,
}

/// Whose signatures a revision needs.
#[derive(Clone, Debug)]
pub enum Verification {
    /// Nobody's: whoever can push is trusted.
    Off,
    /// Those of whom the host names.
    By(Arc<Trust>),
    /// Nobody knows, for the host's files can't be used: no newer revision comes into force.
    Unusable(String),
}

impl Verification {
    /// What it rests on: the answer to which revision is in force is another where this is.
    pub fn digest(&self) -> String {
        match self {
            Verification::Off => String::new(),
            Verification::By(trust) => trust.digest().to_owned(),
            Verification::Unusable(why) => why.clone(),
        }
    }
}

/// The revision in force, and what stands between it and the newest one.
#[derive(Clone, Debug)]
pub struct Desired {
    /// What is declared.
    pub spec: Arc<Spec>,
    /// By which commit.
    pub revision: Revision,
    /// Who signed it, as far as that was verified and counts.
    pub signer: Option<Signer>,
    /// Warnings about it.
    pub warnings: Vec<Diagnostic>,
    /// The digest of what is declared.
    pub declaration: String,
    /// What it approves, whoever says so.
    pub approvals: Vec<Approval>,
    /// What of that counts on this host; nothing until that was looked into.
    pub by_commit: ByCommit,
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
    /// A signature is missing or does not count.
    Untrusted {
        /// The branch's tip.
        revision: String,
        /// What is not trusted, and why.
        why: String,
    },
    /// The branch was rewritten: what was in force is not in its history. Held until a person approves it.
    Rewritten {
        /// The branch's tip.
        revision: String,
        /// The revision in force, which the branch has lost.
        from: String,
        /// The commits that it has lost.
        lost: Lost,
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
            Obstacle::Untrusted { revision, .. } | Obstacle::Rewritten { revision, .. } => Some(revision),
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
            Obstacle::Untrusted { why, .. } => {
                write!(
                    f,
                    "{why}; have it signed by somebody whom this host's repo.signers or repo.keyring name"
                )
            }
            Obstacle::Rewritten { revision, from, lost } => write!(
                f,
                "the branch was rewritten: revision {} is not in the history of {}, which is held; it has lost {lost}; \
                 look at both, then run `backstay approve {revision} --reason WHY`, or push the branch as it was",
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
}

/// Finds the revision in force. `known` is the one that was in force before: it stays so while nothing newer may replace it,
/// even when its own signature does not count any more.
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
    match candidate(mirror, demands, &newest, known.as_deref()).await {
        Ok(good) => Ok(good),
        Err(obstacle) => {
            // The rewritten branch says nothing of what was in force.
            let from = known.as_ref().unwrap_or(&newest);
            last_good(mirror, demands, from, obstacle, known.as_deref()).await
        }
    }
}

/// The revision that the tip `newest` of the branch proposes, if it may replace `known`.
async fn candidate(
    mirror: &Mirror,
    demands: &Demands,
    newest: &str,
    known: Option<&str>,
) -> Result<Desired, Obstacle> {
    // A branch may be made to name anything; only of commits it can be asked who signed them and what they follow.
    mirror.describe(newest).await.map_err(|error| unreadable(newest, &error))?;
    let untrusted = |why: String| Obstacle::Untrusted { revision: newest.to_owned(), why };
    let (proposed, signer, newer) = match &demands.verification {
        Verification::Off => (newest.to_owned(), None, None),
        Verification::By(trust) => {
            let choice =
                trust.choose(mirror, newest, known).await.map_err(|why| untrusted(why.to_string()))?;
            (choice.revision, Some(choice.signer), choice.newer)
        }
        Verification::Unusable(why) => return Err(untrusted(why.clone())),
    };
    if let Some(from) = known
        && demands.approved.as_ref().is_none_or(|(old, new)| old != from || *new != proposed)
        && !mirror.leads_to(from, &proposed).await
    {
        let lost = mirror.lost(from, &proposed).await;
        return Err(Obstacle::Rewritten { revision: proposed, from: from.to_owned(), lost });
    }
    let good = read(mirror, demands, &proposed).await?;
    Ok(Desired { signer, obstacle: newer.map(|why| untrusted(why.to_string())), ..good })
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
        let was_in_force = known == Some(id.as_str());
        if obstacle.revision() == Some(id.as_str()) && !was_in_force {
            continue;
        }
        let signer = match vouched(mirror, demands, &id).await {
            Ok(signer) => signer,
            // It came into force when it was trusted; ending the protection now would serve nobody.
            Err(()) if was_in_force => None,
            Err(()) => continue,
        };
        if let Ok(good) = read(mirror, demands, &id).await {
            let stands_in_for = known.filter(|_| !was_in_force).map(str::to_owned);
            return Ok(Desired { signer, obstacle: Some(obstacle), stands_in_for, ..good });
        }
    }
    Err(NothingInForce::NoneGood(obstacle))
}

/// Who signed a revision, as far as signatures are asked for.
async fn vouched(mirror: &Mirror, demands: &Demands, id: &str) -> Result<Option<Signer>, ()> {
    match &demands.verification {
        Verification::Off => Ok(None),
        Verification::By(trust) => trust.vouch(mirror, id).await.map(Some).map_err(|_| ()),
        Verification::Unusable(_) => Err(()),
    }
}

async fn read(mirror: &Mirror, demands: &Demands, id: &str) -> Result<Desired, Obstacle> {
    let declaration = mirror.declaration(id, &demands.folder).await;
    judge(declaration.map_err(|error| unreadable(id, &error))?, &demands.must_recipients)
}

fn unreadable(id: &str, error: &RevisionError) -> Obstacle {
    Obstacle::Unreadable { revision: Some(id.to_owned()), reason: error.to_string() }
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
            signer: None,
            warnings: diagnostics,
            declaration: declared(&files),
            approvals: parsed.approvals,
            by_commit: ByCommit::default(),
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
