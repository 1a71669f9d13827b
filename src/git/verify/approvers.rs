//! Whose commits may approve: the signature of the commit that brought a file.

use std::{path::Path, sync::Arc};

use git2::{Oid, Repository};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{Keys, Signer, TrustError, Unverified, either, named, object, read_file, signed};
use crate::git::{Mirror, introduced::introduced, mirror::blocking};

/// Whose commits may approve, by a file of the host.
#[derive(Debug)]
pub struct Approvers {
    keys: Keys,
    digest: String,
}

/// A file of the infra repo and who vouches for what stands in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// The commit that brought it.
    pub commit: String,
    /// When, by the committer's clock.
    pub at: Timestamp,
    /// Who signed that commit.
    pub signer: Signer,
}

impl Approvers {
    /// Reads the file: SSH keys in the format of `allowed_signers`, or OpenPGP keys.
    pub fn read(path: &Path) -> Result<Self, TrustError> {
        let content = read_file(path)?;
        let keys = either(&content).map_err(|reason| TrustError::Faulty { path: path.to_owned(), reason })?;
        Ok(Self { keys, digest: hex::encode(Sha256::digest(&content)) })
    }

    /// Equal exactly when the content of the file is.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Who vouches for the file `path` of the revision: the signer of the commit that brought it as it is.
    ///
    /// # Errors
    /// Why nobody does, for people.
    pub async fn vouch(
        self: &Arc<Self>,
        mirror: &Mirror,
        revision: &str,
        path: &str,
    ) -> Result<Vouched, String> {
        let (repo, approvers) = (mirror.path().to_owned(), self.clone());
        let (revision, path) = (revision.to_owned(), path.to_owned());
        blocking(move || {
            let repo = Repository::open_bare(&repo).map_err(told)?;
            approvers.judge(&repo, &revision, &path)
        })
        .await
    }

    fn judge(&self, repo: &Repository, revision: &str, path: &str) -> Result<Vouched, String> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let tip = Oid::from_str(revision).map_err(told)?;
        let id = introduced(repo, tip, &parts)
            .map_err(|why| format!("the commit that wrote {path} cannot be told: {why}"))?;
        let distrust = |why: Unverified| format!("{}, which wrote {path}: {why}", named(&id.to_string()));
        let signed = object(repo, id).and_then(|raw| signed::commit(&raw)).map_err(distrust)?;
        let signer = self.keys.check(&signed).map_err(|why| match why {
            Unverified::UnknownKey { fingerprint } => format!(
                "{}, which wrote {path}, is signed by {fingerprint}, which repo.approvers does not name",
                named(&id.to_string())
            ),
            other => distrust(other),
        })?;
        let at = Timestamp::from_second(signed.at).map_err(|error| error.to_string())?;
        Ok(Vouched { commit: id.to_string(), at, signer })
    }
}

fn told(error: git2::Error) -> String {
    error.message().escape_debug().to_string()
}
