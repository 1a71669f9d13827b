use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use backstay::git::{Mirror, RepoUrl, WriteError, Written, WrittenBranch, written::MARK};
use jiff::Timestamp;

use super::{Repo, git};

/// A bare infra repo with a first commit on `main`.
struct Bare {
    repo: Repo,
    path: PathBuf,
}

impl Bare {
    fn new() -> Self {
        let repo = Repo::with_a_commit();
        let path = repo.root.path().join("origin.git");
        git(repo.root.path(), &["clone", "-q", "--bare", "infra", "origin.git"]);
        Self { repo, path }
    }

    fn branch(&self, state: &str, fleet: &str) -> WrittenBranch {
        let state = self.repo.root.path().join(state);
        std::fs::create_dir_all(&state).unwrap();
        let url = RepoUrl::parse(self.path.to_str().unwrap()).unwrap();
        WrittenBranch::open(&state, url, "runbooks", &fleet.parse().unwrap()).unwrap()
    }

    fn git(&self, arguments: &[&str]) -> String {
        git(&self.path, arguments)
    }
}

fn files(pairs: &[(&str, &str)]) -> BTreeMap<String, Arc<str>> {
    pairs.iter().map(|(path, text)| ((*path).to_owned(), Arc::from(*text))).collect()
}

async fn put(branch: &WrittenBranch, pairs: &[(&str, &str)]) -> Result<Written, WriteError> {
    branch.put(files(pairs), "As things stand\n", Timestamp::from_second(1_800_000_000).unwrap()).await
}

#[tokio::test]
async fn each_change_is_one_commit_on_the_one_before_and_nothing_new_is_none() {
    let bare = Bare::new();
    let main = bare.git(&["rev-parse", "main"]);
    let branch = bare.branch("state", "pavroto");
    assert_eq!(put(&branch, &[]).await.unwrap(), Written::Unchanged);
    assert_eq!(bare.git(&["branch", "--list", "runbooks"]), "", "nothing is no reason for a branch");

    let both = [("site.md", "one\n"), ("site.files/web/domain.xml.form", "<domain/>\n")];
    let Written::Commit(first) = put(&branch, &both).await.unwrap() else { panic!("it is new") };
    assert_eq!(put(&branch, &both).await.unwrap(), Written::Unchanged);
    assert_eq!(bare.git(&["show", "runbooks:site.files/web/domain.xml.form"]), "<domain/>");
    // Another host, or one that lost its state.
    let elsewhere = bare.branch("other", "pavroto");
    assert_eq!(put(&elsewhere, &both).await.unwrap(), Written::Unchanged);
    let Written::Commit(second) = put(&elsewhere, &[("site.md", "two\n")]).await.unwrap() else { panic!() };
    let Written::Commit(third) = put(&branch, &[("site.md", "three\n")]).await.unwrap() else { panic!() };
    assert_eq!(bare.git(&["rev-list", "runbooks"]).lines().collect::<Vec<_>>(), [third, second, first]);
    assert_eq!(bare.git(&["ls-tree", "-r", "--name-only", "runbooks"]), format!("{MARK}\nsite.md"));
    assert_eq!(
        bare.git(&["log", "-1", "--format=%an %ae %ct", "runbooks"]),
        "Backstay backstay@pavroto.invalid 1800000000"
    );
    assert_eq!(bare.git(&["rev-parse", "main"]), main);
}

#[tokio::test]
async fn a_branch_of_somebody_elses_is_left_alone() {
    let bare = Bare::new();
    bare.git(&["branch", "runbooks", "main"]);
    let before = bare.git(&["rev-parse", "runbooks"]);
    let error = put(&bare.branch("state", "pavroto"), &[("site.md", "one\n")]).await.unwrap_err();
    assert!(
        matches!(error, WriteError::Foreign { .. }) && error.to_string().contains("something else"),
        "{error}"
    );
    assert_eq!(bare.git(&["rev-parse", "runbooks"]), before);

    bare.git(&["branch", "-q", "-D", "runbooks"]);
    put(&bare.branch("state", "autosync"), &[("site.md", "one\n")]).await.unwrap();
    let error = put(&bare.branch("state", "pavroto"), &[("site.md", "two\n")]).await.unwrap_err();
    assert!(error.to_string().contains("another fleet's"), "{error}");
    assert_eq!(bare.git(&["show", "runbooks:site.md"]), "one");
}

#[tokio::test]
async fn a_repo_that_takes_nothing_or_is_not_there_is_an_error_that_says_so() {
    let bare = Bare::new();
    let branch = bare.branch("state", "pavroto");
    let objects = bare.path.join("refs/heads/runbooks.lock");
    std::fs::write(&objects, "").unwrap();
    let error = put(&branch, &[("site.md", "one\n")]).await.unwrap_err();
    assert!(matches!(error, WriteError::Rejected { .. }), "{error}");
    std::fs::remove_file(&objects).unwrap();
    put(&branch, &[("site.md", "one\n")]).await.unwrap();
    std::fs::rename(&bare.path, bare.path.with_extension("away")).unwrap();
    let error = put(&branch, &[("site.md", "two\n")]).await.unwrap_err();
    assert!(matches!(error, WriteError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn what_somebody_deleted_or_set_back_is_written_again() {
    let bare = Bare::new();
    let branch = bare.branch("state", "pavroto");
    let Written::Commit(first) = put(&branch, &[("site.md", "one\n")]).await.unwrap() else { panic!() };
    put(&branch, &[("site.md", "two\n")]).await.unwrap();
    bare.git(&["update-ref", "refs/heads/runbooks", &first]);
    assert!(matches!(put(&branch, &[("site.md", "two\n")]).await.unwrap(), Written::Commit(_)));
    assert_eq!(bare.git(&["show", "runbooks:site.md"]), "two");
    assert_eq!(bare.git(&["rev-parse", "runbooks~1"]), first);
    bare.git(&["branch", "-q", "-D", "runbooks"]);
    assert!(matches!(put(&branch, &[("site.md", "two\n")]).await.unwrap(), Written::Commit(_)));
    assert_eq!(bare.git(&["show", "runbooks:site.md"]), "two");
    assert_eq!(put(&branch, &[("site.md", "two\n")]).await.unwrap(), Written::Unchanged);
}

/// Adds a commit of somebody's to the branch of runbooks, from a clone.
fn add_a_remark(bare: &Bare) -> String {
    let root = bare.repo.root.path();
    git(root, &["clone", "-q", "-b", "runbooks", "origin.git", "clone"]);
    std::fs::write(root.join("clone/remark"), "call Ada first\n").unwrap();
    let clone = root.join("clone");
    git(&clone, &["add", "remark"]);
    git(&clone, &["commit", "-q", "-m", "Remark"]);
    git(&clone, &["push", "-q", "origin", "runbooks"]);
    git(&clone, &["rev-parse", "HEAD"])
}

#[tokio::test]
async fn what_somebody_added_to_the_branch_is_left_to_them() {
    let bare = Bare::new();
    let branch = bare.branch("state", "pavroto");
    put(&branch, &[("site.md", "one\n")]).await.unwrap();
    let remark = add_a_remark(&bare);
    let error = put(&branch, &[("site.md", "two\n")]).await.unwrap_err();
    assert!(error.to_string().contains("somebody else's"), "{error}");
    assert_eq!(bare.git(&["rev-parse", "runbooks"]), remark);
}

#[tokio::test]
async fn what_the_controller_writes_itself_is_in_no_mirror_and_what_others_write_is() {
    let bare = Bare::new();
    let branch = bare.branch("state", "pavroto");
    put(&branch, &[("site.md", "one\n")]).await.unwrap();
    let url = || RepoUrl::parse(bare.path.to_str().unwrap()).unwrap();
    let state = bare.repo.root.path().join("state");
    let runbooks = "refs/heads/runbooks";
    let plain = Mirror::open(&state, url(), "main").unwrap();
    assert!(plain.fetch().await.unwrap().tips.get(runbooks).is_some());
    // Also where it was mirrored before, and where nothing else is known of it.
    std::fs::remove_dir_all(state.join("written.git")).unwrap();
    let mirror = Mirror::open(&state, url(), "main").unwrap().leaving_out("runbooks").unwrap();
    let fetched = mirror.fetch().await.unwrap();
    assert_eq!((fetched.tips.get(runbooks), fetched.rewritten), (None, Vec::new()));
    let first = bare.git(&["rev-parse", "runbooks"]);
    put(&branch, &[("site.md", "two\n")]).await.unwrap();
    bare.git(&["branch", "runbooks-of-others", "main"]);
    let tips = mirror.fetch().await.unwrap().tips;
    assert!(tips.get(runbooks).is_none() && tips.get("refs/heads/runbooks-of-others").is_some(), "{tips:?}");
    assert!(tips.references().all(|(name, _)| !name.starts_with("refs/backstay/")), "{tips:?}");

    // A person's commit is mirrored, and kept once the branch is Backstay's again.
    let remark = add_a_remark(&bare);
    assert_eq!(mirror.fetch().await.unwrap().tips.get(runbooks), Some(remark.as_str()));
    bare.git(&["update-ref", runbooks, &first]);
    let fetched = mirror.fetch().await.unwrap();
    assert_eq!(fetched.tips.get(runbooks), None);
    assert!(fetched.tips.get(&format!("refs/backstay/old/{remark}")).is_some(), "{:?}", fetched.tips);
    assert_eq!(fetched.rewritten.len(), 1);
}

#[tokio::test]
async fn a_branch_that_was_named_by_mistake_stays_mirrored() {
    let repo = Repo::with_a_commit();
    repo.git(&["checkout", "-q", "-b", "wip"]);
    let work = repo.commit("x", "y");
    repo.git(&["checkout", "-q", "main"]);
    let mirror = repo.mirror().leaving_out("wip").unwrap();
    for _ in 0..2 {
        let tips = mirror.fetch().await.unwrap().tips;
        assert_eq!(tips.get("refs/heads/wip"), Some(work.as_str()));
    }
}

#[tokio::test]
async fn what_commits_leave_in_the_copy_is_packed() {
    let bare = Bare::new();
    let branch = bare.branch("state", "pavroto");
    put(&branch, &[("site.md", "one\n")]).await.unwrap();
    let copy = bare.repo.root.path().join("state/written.git");
    // git-gc(1) estimates by the folder `17`.
    git(&copy, &["config", "gc.auto", "1"]);
    let texts = (0..).map(|number| format!("{number}\n"));
    let is_counted = |text: &String| {
        let id = git2::Oid::hash_object(git2::ObjectType::Blob, text.as_bytes()).unwrap();
        id.to_string().starts_with("17")
    };
    let texts: Vec<String> = texts.filter(is_counted).take(3).collect();
    let pairs: Vec<(&str, &str)> =
        ["a", "b", "c"].into_iter().zip(texts.iter().map(String::as_str)).collect();
    let packs = || {
        let names = std::fs::read_dir(copy.join("objects/pack")).unwrap().flatten();
        names.filter(|entry| entry.path().extension().is_some_and(|it| it == "pack")).count()
    };
    assert_eq!(packs(), 0);
    assert!(matches!(put(&branch, &pairs).await.unwrap(), Written::Commit(_)));
    assert_eq!(packs(), 1);
    assert_eq!(put(&branch, &pairs).await.unwrap(), Written::Unchanged);
}

#[tokio::test]
async fn a_server_that_takes_its_time_with_a_push_holds_up_no_fetch() {
    let bare = Bare::new();
    let other = bare.branch("other", "pavroto");
    let Written::Commit(first) = put(&other, &[("site.md", "one\n")]).await.unwrap() else { panic!() };
    let Written::Commit(of_other) = put(&other, &[("site.md", "three\n")]).await.unwrap() else { panic!() };
    bare.git(&["update-ref", "refs/heads/runbooks", &first]);
    // The server waits for a lock that nobody gives back, before it takes what this host pushes.
    bare.git(&["config", "core.filesRefLockTimeout", "-1"]);
    let (tip, lock) = (bare.path.join("refs/heads/runbooks"), bare.path.join("refs/heads/runbooks.lock"));
    std::fs::write(&lock, "").unwrap();
    let (objects, branch) = (bare.git(&["count-objects"]), bare.branch("state", "pavroto"));
    let pushing = tokio::spawn(async move { put(&branch, &[("site.md", "two\n")]).await });
    while bare.git(&["count-objects"]) == objects {
        assert!(!pushing.is_finished(), "{:?}", pushing.await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    // Meanwhile another controller of the fleet has written the branch.
    std::fs::write(&tip, format!("{of_other}\n")).unwrap();
    let url = RepoUrl::parse(bare.path.to_str().unwrap()).unwrap();
    let mirror = Mirror::open(&bare.repo.root.path().join("state"), url, "main").unwrap();
    let mirror = mirror.leaving_out("runbooks").unwrap();
    let fetched = tokio::time::timeout(Duration::from_secs(30), mirror.fetch()).await;
    let fetched = fetched.expect("it waits for nobody").unwrap();
    assert!(!pushing.is_finished(), "{:?}", pushing.await);
    assert_eq!(fetched.tips.get("refs/heads/runbooks"), None, "it is left out all the same");
    std::fs::remove_file(&lock).unwrap();
    // What it was to follow on is not the tip any more.
    let pushed = pushing.await.unwrap();
    assert!(matches!(pushed, Err(WriteError::Rejected { .. })), "{pushed:?}");
}
