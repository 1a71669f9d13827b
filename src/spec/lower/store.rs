//! Stores, and what sources share with them: buckets and secrets.

use super::{Lower, below, length, line, word};
use crate::spec::{
    Addressing, AwsCredentials, Budget, S3, SecretRef, SelfHeal, Sftp, Store, StorePlace,
    names::StoreName,
    places::{Path, path},
    schema,
    walk::show,
};

/// The port of SSH.
const SSH_PORT: u16 = 22;
/// Where S3 itself looks when no region is named.
const DEFAULT_REGION: &str = "us-east-1";

impl Lower<'_> {
    pub(super) fn store(&mut self, name: &StoreName, store: schema::Store) -> Option<Store> {
        let at = path(["store", name.as_str()]);
        let place = match store {
            schema::Store { local: Some(ref local), .. } => {
                StorePlace::Local { path: local.path.clone()?.0.0 }
            }
            schema::Store { sftp: Some(ref sftp), .. } => StorePlace::Sftp(sftp_of(sftp.clone())?),
            schema::Store { s3: Some(ref s3), .. } => {
                StorePlace::S3(self.s3(&below(&at, ["s3"]), s3.clone())?)
            }
            schema::Store { azblob: Some(ref azblob), .. } => azblob_of(azblob.clone())?,
            schema::Store { gcs: Some(ref gcs), .. } => gcs_of(gcs.clone())?,
            _ => return None,
        };
        Some(Store {
            name: name.clone(),
            location: line(store.location),
            capacity: store.capacity.map(|size| size.0.0),
            immutable: length(store.immutable),
            budget: store.budget.and_then(budget),
            recipients: store.recipients.map(|list| list.into_iter().map(|recipient| recipient.0).collect()),
            self_heal: SelfHeal::declared(store.self_heal),
            place,
        })
    }

    pub(super) fn s3(&mut self, at: &Path, s3: schema::S3) -> Option<S3> {
        let credentials = self.access_key(at, s3.access_key_id, s3.secret_access_key);
        let endpoint = s3.endpoint.map(|url| url.0.0);
        let addressing = match (s3.addressing, &endpoint) {
            (Some(schema::Addressing::Path), _) | (None, Some(_)) => Addressing::Path,
            (Some(schema::Addressing::VirtualHost), _) | (None, None) => Addressing::VirtualHost,
        };
        Some(S3 {
            bucket: word(s3.bucket)?,
            region: word(s3.region).unwrap_or_else(|| DEFAULT_REGION.to_owned()),
            endpoint,
            prefix: s3.prefix.map(|prefix| prefix.0.0).unwrap_or_default(),
            addressing,
            credentials,
        })
    }

    /// Both halves of an access key, or neither.
    pub(super) fn access_key(
        &mut self,
        at: &Path,
        id: Option<schema::Secret>,
        secret_half: Option<schema::Secret>,
    ) -> Option<AwsCredentials> {
        match (id.map(secret), secret_half.map(secret)) {
            (Some(access_key_id), Some(secret_access_key)) => {
                Some(AwsCredentials { access_key_id: access_key_id?, secret_access_key: secret_access_key? })
            }
            (None, None) => None,
            _ => {
                let message = format!("[{}] has one half of an access key", show(at));
                let hint = "`access_key_id` and `secret_access_key` belong together";
                self.error("missing-key", at, message, hint);
                None
            }
        }
    }
}

fn budget(budget: schema::Budget) -> Option<Budget> {
    Some(Budget {
        per_gib_month: budget.per_gib_month?,
        month: budget.month?,
        alert_at: budget.alert_at.unwrap_or(schema::ALERT_AT),
    })
}

fn sftp_of(sftp: schema::Sftp) -> Option<Sftp> {
    Some(Sftp {
        host: word(sftp.host)?,
        port: sftp.port.unwrap_or(SSH_PORT),
        user: word(sftp.user)?,
        path: sftp.path?.0.0,
        host_key: sftp.host_key?.0.0,
        identity: secret(sftp.identity?)?,
    })
}

fn azblob_of(azblob: schema::Azblob) -> Option<StorePlace> {
    Some(StorePlace::Azblob {
        account: word(azblob.account)?,
        container: word(azblob.container)?,
        prefix: azblob.prefix.map(|prefix| prefix.0.0).unwrap_or_default(),
        endpoint: azblob.endpoint.map(|url| url.0.0),
        key: azblob.key.and_then(secret),
    })
}

fn gcs_of(gcs: schema::Gcs) -> Option<StorePlace> {
    Some(StorePlace::Gcs {
        bucket: word(gcs.bucket)?,
        prefix: gcs.prefix.map(|prefix| prefix.0.0).unwrap_or_default(),
        endpoint: gcs.endpoint.map(|url| url.0.0),
        credential: gcs.credential.and_then(secret),
    })
}

pub(super) fn secret(secret: schema::Secret) -> Option<SecretRef> {
    match secret {
        schema::Secret { file: Some(file), .. } => Some(SecretRef::File(file.0.0)),
        schema::Secret { env: Some(env), .. } => Some(SecretRef::Env(env.0.0)),
        schema::Secret { command: Some(command), .. } => Some(SecretRef::Command(command)),
        schema::Secret { age: Some(age), .. } => Some(SecretRef::Age(age)),
        _ => None,
    }
}
