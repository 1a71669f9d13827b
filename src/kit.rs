//! The recovery kit: what a person needs on a bare machine to restore without Backstay. It holds no secret, so that it may
//! be kept in many places: the age identity is kept apart, and the naming key is not needed to restore.

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use crate::{
    artifact::{layout, manifest, record},
    spec::{
        Spec, StorePlace,
        names::{BackupName, FleetName},
    },
    stores::{Put, Store, StoreError},
};

/// The script that restores with `age`, `zstd`, `jq`, `ssh-keygen` and the core utilities.
pub const RESTORE_SCRIPT: &str = include_str!("../templates/kit/restore.sh");

const RESTORE_PAGE: &str = include_str!("../templates/kit/RESTORE.md");

/// The name by which the script asks for the signers.
const PRINCIPAL: &str = "backstay";

/// A kit that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write {path}: {reason}; name a folder that is empty or does not exist, with --out", path = .path.display())]
pub struct KitError {
    /// The file or folder.
    pub path: PathBuf,
    /// Why.
    pub reason: io::Error,
}

/// Writes the kit of a fleet into the folder `dir`, which is made if it is missing, and returns the files. Nothing is
/// overwritten. `trusted_keys` are the public keys whose signatures count.
pub fn write(dir: &Path, spec: &Spec, trusted_keys: &[String]) -> Result<Vec<PathBuf>, KitError> {
    let fleet = &spec.fleet.name;
    let files = [
        ("KIT.md", 0o644, overview(spec)),
        ("RESTORE.md", 0o644, restore_page(fleet)),
        ("allowed_signers", 0o644, allowed_signers(trusted_keys)),
        ("restore.sh", 0o755, RESTORE_SCRIPT.to_owned()),
    ];
    fs::create_dir_all(dir).map_err(|reason| KitError { path: dir.to_owned(), reason })?;
    let mut written = Vec::new();
    for (name, mode, content) in files {
        let path = dir.join(name);
        create(&path, mode, &content).map_err(|reason| KitError { path: path.clone(), reason })?;
        written.push(path);
    }
    Ok(written)
}

fn create(path: &Path, mode: u32, content: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

/// The page that every store carries, and the kit as well: how to restore without Backstay.
pub fn restore_page(fleet: &FleetName) -> String {
    RESTORE_PAGE.replace("{{fleet}}", fleet.as_str())
}

/// Puts the page into a store, unless there is one.
pub async fn put_restore_page(store: &dyn Store, fleet: &FleetName) -> Result<Put, StoreError> {
    store.put_if_absent(&layout::restore_page(fleet), Bytes::from(restore_page(fleet))).await
}

/// The public keys as `ssh-keygen -Y verify` reads them (ALLOWED SIGNERS in ssh-keygen(1)).
pub fn allowed_signers(trusted_keys: &[String]) -> String {
    let namespaces = format!("{},{}", manifest::SIGNATURE_NAMESPACE, record::SIGNATURE_NAMESPACE);
    trusted_keys.iter().map(|key| format!("{PRINCIPAL} namespaces=\"{namespaces}\" {key}\n")).collect()
}

/// What is where, and whom to call.
fn overview(spec: &Spec) -> String {
    let mut page =
        format!("# Recovery kit of the fleet {}\n\nRestore as RESTORE.md says.\n", spec.fleet.name);
    section(
        &mut page,
        "Stores",
        spec.stores.values().map(|store| {
            let location = store.location.as_ref().map(|l| format!(", {l}")).unwrap_or_default();
            format!("**{}**: {}{location}", store.name, place(&store.place))
        }),
    );
    section(
        &mut page,
        "Backups",
        backups(spec).map(|(name, what, stores)| format!("**{name}**: {what}; in {stores}")),
    );
    section(&mut page, "Who can decrypt", spec.fleet.recipients.iter().map(|r| format!("`{}`", r.as_str())));
    section(
        &mut page,
        "Whom to call",
        spec.contacts.values().map(|contact| {
            let ways = [&contact.role, &contact.email, &contact.phone];
            let ways: Vec<&str> = ways.into_iter().flatten().map(String::as_str).collect();
            format!("**{}**: {}", contact.name, ways.join(", "))
        }),
    );
    page
}

fn section(page: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        // Writing into a string cannot fail.
        let _ = write!(page, "\n## {title}\n\n");
        for line in lines {
            let _ = writeln!(page, "- {line}");
        }
    }
}

fn backups(spec: &Spec) -> impl Iterator<Item = (BackupName, String, String)> {
    let join = |stores: &[crate::spec::names::StoreName]| {
        stores.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let infra = spec
        .infra
        .iter()
        .map(move |infra| (BackupName::infra(), "the infra repo".to_owned(), join(&infra.stores)));
    infra.chain(spec.backups.values().map(move |backup| {
        let what = backup.description.clone().unwrap_or_else(|| backup.source.kind().to_owned());
        let folder = spec.moved.folder(&backup.name);
        let stored_as = match folder.as_str() == backup.name.as_str() {
            true => String::new(),
            false => format!("; stored as `{folder}`"),
        };
        (backup.name.clone(), what, format!("{}{stored_as}", join(&backup.stores)))
    }))
}

/// How a store is reached; never a secret.
fn place(place: &StorePlace) -> String {
    match place {
        StorePlace::Local { path } => format!("the folder {}", path.display()),
        StorePlace::Sftp(sftp) => {
            format!(
                "sftp://{}@{}:{}{}, host key `{}`",
                sftp.user, sftp.host, sftp.port, sftp.path, sftp.host_key
            )
        }
        StorePlace::S3(s3) => {
            let endpoint = s3.endpoint.as_deref().unwrap_or("AWS");
            format!("s3://{}/{} at {endpoint}, region {}", s3.bucket, s3.prefix, s3.region)
        }
        StorePlace::Azblob { account, container, prefix, .. } => {
            format!("Azure Blob Storage, account {account}, container {container}, folder `{prefix}`")
        }
        StorePlace::Gcs { bucket, prefix, .. } => format!("gs://{bucket}/{prefix}"),
    }
}
