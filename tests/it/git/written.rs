use std::{collections::BTreeMap, path::PathBuf};

use backstay::git::{RepoUrl, WriteError, Written, WrittenBranch, written::MARK};
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

fn files(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

async fn put(branch: &WrittenBranch, pairs: &[(&str, &str)]) -> Result<Written, WriteError> {
    branch.put(&files(pairs), "As things stand\n", Timestamp::from_second(1_800_000_000).unwrap()).await
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
async fn what_the_controller_writes_itself_is_in_no_mirror() {
    let repo = Repo::with_a_commit();
    let plain = repo.mirror();
    repo.git(&["branch", "runbooks", "main"]);
    assert!(plain.fetch().await.unwrap().tips.get("refs/heads/runbooks").is_some());
    let mirror = repo.mirror().leaving_out("runbooks");
    let tips = mirror.fetch().await.unwrap().tips;
    assert_eq!(tips.get("refs/heads/runbooks"), None, "also where it was mirrored before");
    repo.git(&["branch", "-q", "runbooks-of-others", "main"]);
    repo.git(&["checkout", "-q", "--orphan", "next"]);
    repo.commit("x", "y");
    repo.git(&["branch", "-q", "-f", "runbooks", "next"]);
    repo.git(&["checkout", "-q", "main"]);
    repo.git(&["branch", "-q", "-D", "next"]);
    let fetched = mirror.fetch().await.unwrap();
    assert_eq!(fetched.tips.get("refs/heads/runbooks"), None);
    assert!(fetched.tips.get("refs/heads/runbooks-of-others").is_some());
    assert_eq!(fetched.rewritten, []);
    assert!(
        fetched.tips.references().all(|(name, _)| !name.starts_with("refs/backstay/")),
        "{:?}",
        fetched.tips
    );
}
