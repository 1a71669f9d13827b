//! Approvals by a signed commit of `approve.toml`.

use backstay::config::Config;

use super::*;
use crate::{git::git_at, trust::Scene};

/// A crowded fleet whose host takes approvals of ops; whoever can push may declare.
struct Guarded {
    fleet: Fleet,
    keys: Scene,
    /// The revision that the plans are made for.
    base: String,
}

impl Guarded {
    async fn new() -> Self {
        let fleet = crowded().await;
        let keys = Scene::new(backstay::git::Mode::Head);
        let ops = keys.key("ops", &["ed25519"]);
        keys.key("mallory", &["ed25519"]);
        keys.allow(&format!("ops@example.org {ops}\n"));
        let base = fleet.repo.id("HEAD");
        Self { fleet, keys, base }
    }

    fn config(&self) -> Config {
        let mut config = self.fleet.config();
        config.repo.approvers = Some(self.keys.path("allowed"));
        config
    }

    fn controller(&self) -> Controller {
        Controller::open(self.config(), self.fleet.clock.clone()).unwrap()
    }

    async fn plan(&self) -> Pass {
        self.controller().plan(&Ask::Everything, &Terms::default()).await.unwrap()
    }

    /// What a commit is to say that approves what is withheld in the vault.
    async fn entry(&self, lasts: SignedDuration) -> String {
        let planned = self.plan().await;
        let plan = withheld(&planned.plan, "vault").plan.unwrap();
        let expires = self.fleet.clock_now() + lasts;
        let base = &self.base;
        format!(
            "[[approve]]\nplan = \"{plan}\"\nbase = \"{base}\"\nreason = \"shortened\"\nexpires = \"{expires}\"\n"
        )
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.fleet.repo.path.join("backup").join(file), text).unwrap();
        self.fleet.repo.git(&["add", "--all"]);
    }

    /// Commits what was written now, signed with `key`.
    fn sign(&self, key: &str, arguments: &[&str]) -> String {
        self.sign_at(self.fleet.clock_now(), key, &[&["-m", "Approve"], arguments].concat())
    }

    /// As if at this moment.
    fn sign_at(&self, at: Timestamp, key: &str, arguments: &[&str]) -> String {
        let key = format!("user.signingkey={}", self.keys.path(key).display());
        let commit = ["-c", "gpg.format=ssh", "-c", &key, "commit", "-q", "-S"];
        git_at(&self.fleet.repo.path, at, &[&commit[..], arguments].concat());
        self.fleet.repo.id("HEAD")
    }

    /// Nothing is approved, and `why` is told, by the plan's condition.
    async fn is_void(&self, why: &str) {
        let planned = self.plan().await;
        assert_eq!(planned.plan.approved, []);
        let told = &withheld(&planned.plan, "vault").reason;
        assert!(told.contains(why), "{told}");
    }

    async fn counts(&self, commit: &str) {
        let planned = self.plan().await;
        let [approved] = planned.plan.approved.as_slice() else {
            panic!("{:?}\n{:?}", planned.plan.withheld, planned.status.conditions)
        };
        assert_eq!(approved.warrant.commit.as_deref(), Some(commit));
        assert!(approved.warrant.by.starts_with("ops@example.org with SHA256:"), "{approved:?}");
    }
}

fn day() -> SignedDuration {
    SignedDuration::from_hours(24)
}

#[tokio::test]
async fn what_an_approver_signs_goes_and_a_commit_elsewhere_changes_nothing_of_that() {
    let guarded = Guarded::new().await;
    guarded.write("approve.toml", &guarded.entry(day()).await);
    let commit = guarded.sign("ops", &[]);
    guarded.counts(&commit).await;
    guarded.fleet.repo.commit("README.md", "not of the declaration");
    guarded.counts(&commit).await;

    let done = pass(&guarded.controller()).await;
    all_done(&done);
    assert_eq!(guarded.fleet.manifests("vault", "shop").len(), 2);
    assert_eq!(guarded.fleet.manifests("offsite", "shop").len(), 7, "nobody approved that");
    withheld(&done.plan, "offsite");
}

#[tokio::test]
async fn only_what_an_approver_signed_counts_and_only_as_it_was_signed() {
    let guarded = Guarded::new().await;
    let entry = guarded.entry(day()).await;
    guarded.write("approve.toml", &entry);
    let by_mallory = guarded.sign("mallory", &[]);
    guarded
        .is_void(&format!("commit {}, which wrote backup/approve.toml, is signed by", &by_mallory[..10]))
        .await;
    let planned = guarded.plan().await;
    let told = planned.status.conditions.iter().find(|told| told.concern.as_str() == "approval-void");
    assert!(told.unwrap().message.contains("repo.approvers does not name"), "{told:?}");

    // An approver's later commit to another file vouches for nothing.
    guarded.write("notes.md", "signed by ops");
    guarded.sign("ops", &[]);
    guarded.is_void(&by_mallory[..10]).await;

    // Nobody signed it.
    guarded.write("approve.toml", &format!("# unsigned\n{entry}"));
    guarded.fleet.repo.git(&["commit", "-q", "-m", "Approve"]);
    guarded.is_void("it is not signed").await;

    guarded.write("approve.toml", &format!("# signed\n{entry}"));
    let commit = guarded.sign("ops", &[]);
    guarded.counts(&commit).await;
    // Whatever anybody else makes of the file afterwards, even a comment, takes its word away.
    guarded.write("approve.toml", &format!("# altered\n{entry}"));
    guarded.sign("mallory", &[]);
    guarded.is_void("repo.approvers does not name").await;
    // A host that names nobody.
    let planned = guarded.fleet.controller().plan(&Ask::Everything, &Terms::default()).await.unwrap();
    assert!(withheld(&planned.plan, "vault").reason.contains("names nobody in `repo.approvers`"));
}

#[tokio::test]
async fn an_approval_by_commit_is_for_its_base_and_expires_within_days_of_the_commit() {
    let guarded = Guarded::new().await;
    let entry = guarded.entry(day()).await;
    guarded.write("approve.toml", &entry.replace(&guarded.base, &"1".repeat(40)));
    guarded.sign("ops", &[]);
    guarded.is_void("did not lead to the one in force").await;

    let first = guarded.fleet.repo.git(&["rev-list", "--max-parents=0", "HEAD"]);
    guarded.write("approve.toml", &entry.replace(&guarded.base, first.trim()));
    guarded.sign("ops", &[]);
    guarded.is_void("something else is declared now").await;

    guarded.write("approve.toml", &guarded.entry(day() * 31).await);
    guarded.sign("ops", &[]);
    guarded.is_void("more than 30 days").await;

    // A commit that says that it is of another time.
    guarded.write("approve.toml", &guarded.entry(day() * 40).await);
    guarded.sign("ops", &[]);
    guarded.sign_at(guarded.fleet.clock_now() + day() * 20, "ops", &["--amend", "--no-edit"]);
    guarded.is_void("which has not come").await;

    guarded.write("approve.toml", &guarded.entry(SignedDuration::from_mins(3)).await);
    let commit = guarded.sign("ops", &[]);
    guarded.counts(&commit).await;
    guarded.fleet.later(Duration::from_secs(181));
    guarded.is_void("it expired").await;
}

#[tokio::test]
async fn a_merge_brings_an_approval_and_does_not_bring_one_back_that_was_taken_away() {
    let guarded = Guarded::new().await;
    let git = |arguments: &[&str]| guarded.fleet.repo.git(arguments);
    git(&["checkout", "-q", "-b", "approval"]);
    guarded.write("approve.toml", &guarded.entry(day()).await);
    let commit = guarded.sign("ops", &[]);
    git(&["checkout", "-q", "main"]);
    guarded.fleet.repo.commit("README.md", "meanwhile");
    git(&["merge", "-q", "--no-ff", "-m", "Merge", "approval"]);
    guarded.counts(&commit).await;

    git(&["rm", "-q", "backup/approve.toml"]);
    git(&["commit", "-q", "-m", "Take it away"]);
    let planned = guarded.plan().await;
    assert_eq!((planned.plan.approved.len(), planned.status.void_approvals.len()), (0, 0));
    // A merge whose content is the file of old.
    let tree = git(&["rev-parse", "HEAD~1^{tree}"]);
    let again = git(&["commit-tree", tree.trim(), "-p", "HEAD", "-p", "approval", "-m", "Merge again"]);
    git(&["reset", "-q", "--hard", again.trim()]);
    guarded.is_void("it is not signed").await;
}

#[tokio::test]
async fn a_faulty_file_keeps_the_revision_out_of_force() {
    let guarded = Guarded::new().await;
    pass(&guarded.controller()).await;
    guarded.write("approve.toml", "[[approve]]\nplan = \"plan:1234\"\nreasons = \"\"\n");
    guarded.sign("ops", &[]);
    let planned = guarded.plan().await;
    assert_eq!(
        (planned.revision.id.as_str(), planned.ending()),
        (guarded.base.as_str(), Ending::BadRevision)
    );
}
