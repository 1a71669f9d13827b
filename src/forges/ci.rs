//! Where a run of CI stands: which host, repository, commit and merge request, by the variables that each CI documents.
//!
//! GitHub: "Variables reference", default environment variables, and the webhook event `pull_request`. Forgejo Actions
//! and Gitea Actions set the same ones. GitLab: "Predefined CI/CD variables reference". Bitbucket: "Variables and
//! secrets", default variables. `BACKSTAY_FORGE_…` come before all of them.

use serde_json::Value;

use super::Kind;

/// Where a run of CI stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// The kind of host.
    pub kind: Kind,
    /// Root of its API.
    pub api: String,
    /// The repository: `owner/name`, or GitLab's number.
    pub project: String,
    /// The commit that the status is for: the branch's own, not that of a trial merge.
    pub commit: String,
    /// The merge request; `None` in a run for a branch.
    pub change: Option<u64>,
    /// The page of the run.
    pub page: Option<String>,
    /// Variables that may hold the token, in this order.
    pub token_variables: &'static [&'static str],
}

/// Why it is not known where this run stands.
#[derive(Debug, thiserror::Error)]
pub enum CiError {
    /// No CI that is known.
    #[error(
        "failed to tell which CI this is: none of GITHUB_ACTIONS, GITLAB_CI, FORGEJO_ACTIONS, GITEA_ACTIONS, \
         BITBUCKET_BUILD_NUMBER is set; name the host, as in `--post=forgejo`, and set BACKSTAY_FORGE_API, \
         BACKSTAY_FORGE_PROJECT, BACKSTAY_FORGE_COMMIT and BACKSTAY_FORGE_CHANGE"
    )]
    Unknown,
    /// Something is not said.
    #[error("failed to tell {what}: neither {own} nor {theirs} is set; set {own}")]
    Unset {
        /// What is missing.
        what: &'static str,
        /// Our variable.
        own: &'static str,
        /// The CI's.
        theirs: &'static str,
    },
    /// Something makes no sense.
    #[error("failed to understand {what}: `{value}`; check the variable")]
    Odd {
        /// What it is.
        what: &'static str,
        /// What it says.
        value: String,
    },
}

/// Which CI this is.
pub fn detect(variable: &dyn Fn(&str) -> Option<String>) -> Result<Kind, CiError> {
    let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    // Forgejo and Gitea set GITHUB_ACTIONS, too.
    if is_set("FORGEJO_ACTIONS") || is_set("GITEA_ACTIONS") {
        Ok(Kind::Forgejo)
    } else if is_set("GITHUB_ACTIONS") {
        Ok(Kind::Github)
    } else if is_set("GITLAB_CI") {
        Ok(Kind::Gitlab)
    } else if is_set("BITBUCKET_BUILD_NUMBER") {
        Ok(Kind::Bitbucket)
    } else {
        Err(CiError::Unknown)
    }
}

/// Where this run stands. `event` is what the file at `GITHUB_EVENT_PATH` holds, where there is one.
pub fn circumstances(
    kind: Kind,
    variable: &dyn Fn(&str) -> Option<String>,
    event: Option<&Value>,
) -> Result<Circumstances, CiError> {
    let seen = Seen { variable };
    let found = match kind {
        Kind::Github => seen.actions(kind, event, "https://api.github.com", &["GITHUB_TOKEN", "GH_TOKEN"]),
        Kind::Forgejo => seen.actions(kind, event, "", &["FORGEJO_TOKEN", "GITEA_TOKEN", "GITHUB_TOKEN"]),
        Kind::Gitlab => seen.gitlab(),
        Kind::Bitbucket => seen.bitbucket(),
    }?;
    let is_commit =
        matches!(found.commit.len(), 40 | 64) && found.commit.bytes().all(|b| b.is_ascii_hexdigit());
    if is_commit { Ok(found) } else { Err(CiError::Odd { what: "the commit", value: found.commit }) }
}

struct Seen<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Seen<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    fn must(
        &self,
        what: &'static str,
        own: &'static str,
        theirs: &'static str,
        found: Option<String>,
    ) -> Result<String, CiError> {
        self.get(own).or(found).ok_or(CiError::Unset { what, own, theirs })
    }

    fn change(&self, found: Option<String>) -> Result<Option<u64>, CiError> {
        let number = |value: String| {
            value.parse().map_err(|_| CiError::Odd { what: "the merge request's number", value })
        };
        self.get("BACKSTAY_FORGE_CHANGE").or(found).map(number).transpose()
    }

    fn actions(
        &self,
        kind: Kind,
        event: Option<&Value>,
        api: &str,
        token_variables: &'static [&'static str],
    ) -> Result<Circumstances, CiError> {
        let request = event.map(|event| &event["pull_request"]).filter(|request| request.is_object());
        let head = request.and_then(|request| request["head"]["sha"].as_str()).map(str::to_owned);
        let number = request.and_then(|request| request["number"].as_u64()).map(|number| number.to_string());
        let project = self.must(
            "the repository",
            "BACKSTAY_FORGE_PROJECT",
            "GITHUB_REPOSITORY",
            self.get("GITHUB_REPOSITORY"),
        )?;
        let api = self.get("GITHUB_API_URL").or_else(|| (!api.is_empty()).then(|| api.to_owned()));
        let run = self.get("GITHUB_SERVER_URL").zip(self.get("GITHUB_RUN_ID"));
        Ok(Circumstances {
            kind,
            api: self.must("the address of the API", "BACKSTAY_FORGE_API", "GITHUB_API_URL", api)?,
            page: run.map(|(server, run)| format!("{server}/{project}/actions/runs/{run}")),
            project,
            commit: self.must(
                "the commit",
                "BACKSTAY_FORGE_COMMIT",
                "GITHUB_SHA",
                head.or_else(|| self.get("GITHUB_SHA")),
            )?,
            change: self.change(number)?,
            token_variables,
        })
    }

    fn gitlab(&self) -> Result<Circumstances, CiError> {
        // In pipelines for merged results CI_COMMIT_SHA is a trial merge.
        let commit = self.get("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA").or_else(|| self.get("CI_COMMIT_SHA"));
        Ok(Circumstances {
            kind: Kind::Gitlab,
            api: self.must(
                "the address of the API",
                "BACKSTAY_FORGE_API",
                "CI_API_V4_URL",
                self.get("CI_API_V4_URL"),
            )?,
            project: self.must(
                "the project",
                "BACKSTAY_FORGE_PROJECT",
                "CI_PROJECT_ID",
                self.get("CI_PROJECT_ID"),
            )?,
            commit: self.must("the commit", "BACKSTAY_FORGE_COMMIT", "CI_COMMIT_SHA", commit)?,
            change: self.change(self.get("CI_MERGE_REQUEST_IID"))?,
            page: self.get("CI_JOB_URL"),
            token_variables: &["GITLAB_TOKEN"],
        })
    }

    fn bitbucket(&self) -> Result<Circumstances, CiError> {
        let project = self.get("BITBUCKET_REPO_FULL_NAME");
        let project =
            self.must("the repository", "BACKSTAY_FORGE_PROJECT", "BITBUCKET_REPO_FULL_NAME", project)?;
        let run = self.get("BITBUCKET_BUILD_NUMBER");
        Ok(Circumstances {
            kind: Kind::Bitbucket,
            api: self.get("BACKSTAY_FORGE_API").unwrap_or_else(|| "https://api.bitbucket.org/2.0".to_owned()),
            page: run.map(|run| format!("https://bitbucket.org/{project}/pipelines/results/{run}")),
            project,
            commit: self.must(
                "the commit",
                "BACKSTAY_FORGE_COMMIT",
                "BITBUCKET_COMMIT",
                self.get("BITBUCKET_COMMIT"),
            )?,
            change: self.change(self.get("BITBUCKET_PR_ID"))?,
            token_variables: &["BITBUCKET_TOKEN"],
        })
    }
}
