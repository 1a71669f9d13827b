//! What goes wrong with AWS's services, and what happens next.

use std::{io, path::PathBuf};

use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::stores::{ErrorKind, extent::Refused};

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("there is no access key in the environment")]
    NoCredentials,
    #[error("the certificates of {} cannot be read: {error}", .path.display())]
    Authorities { path: PathBuf, error: io::Error },
    #[error("there is no such object")]
    NoObject,
    #[error("there is no such bucket")]
    NoBucket,
    #[error("there is no such table")]
    NoTable,
    #[error("the server answers {status} {code}: {message}")]
    Service { status: u16, code: String, message: String },
    #[error("{0}")]
    Connection(String),
    #[error("{0}")]
    Protocol(String),
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl<E> From<SdkError<E, HttpResponse>> for Fault
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        match &error {
            SdkError::ServiceError(answer) => {
                let status = answer.raw().status().as_u16();
                let (code, message) = (answer.err().code(), answer.err().message());
                service(status, code.unwrap_or_default(), message.unwrap_or_default())
            }
            SdkError::ResponseError(answer) if answer.raw().status().is_success() => {
                Fault::Connection(plain(&error))
            }
            SdkError::ResponseError(answer) => service(answer.raw().status().as_u16(), "", &plain(&error)),
            SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) => Fault::Connection(plain(&error)),
            _ => Fault::Protocol(plain(&error)),
        }
    }
}

fn service(status: u16, code: &str, message: &str) -> Fault {
    match code {
        "NoSuchBucket" => Fault::NoBucket,
        "NoSuchKey" => Fault::NoObject,
        "ResourceNotFoundException" | "TableNotFoundException" => Fault::NoTable,
        _ => Fault::Service {
            status,
            code: code.escape_debug().to_string(),
            message: message.escape_debug().to_string(),
        },
    }
}

fn plain<E: std::error::Error>(error: E) -> String {
    DisplayErrorContext(error).to_string().escape_debug().to_string()
}

impl Fault {
    /// A connection that broke while a body was read.
    pub(crate) fn broken_body(error: impl std::error::Error) -> Self {
        let reason = plain(error);
        // The SDK's own check of the object's checksum; it has no type of its own.
        if reason.contains("checksum") { Fault::Protocol(reason) } else { Fault::Connection(reason) }
    }

    /// Whether a condition of the request did not hold.
    pub(crate) fn is_precondition(&self) -> bool {
        matches!(self, Fault::Service { status: 412, .. })
    }

    /// Whether another request for the same object was under way.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Fault::Service { status: 409, .. })
    }

    /// Whether the server says that the key may not do this.
    pub(crate) fn is_access_denied(&self) -> bool {
        matches!(self, Fault::Service { status: 403, code, .. } if code == "AccessDenied")
    }

    /// Whether what the request asks for is not there, as far as an answer without a body can tell.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Fault::NoObject | Fault::Service { status: 404, .. })
    }

    /// Whether a range was beyond the object.
    pub(crate) fn is_beyond(&self) -> bool {
        matches!(self, Fault::Service { status: 416, .. })
    }

    /// Whether what was to be made is there already.
    pub(crate) fn is_existing(&self) -> bool {
        matches!(self, Fault::Service { code, .. } if code == "AlreadyExistsException")
    }

    /// Whether the server does not know what it is asked for, or fails at it alone.
    pub(crate) fn is_unknown_operation(&self) -> bool {
        match self {
            Fault::Service { status: 500 | 501, .. } => true,
            Fault::Service { code, .. } => {
                ["InvalidAction", "UnknownOperationException"].contains(&code.as_str())
            }
            _ => false,
        }
    }

    /// Whether the access key may not do this.
    pub(crate) fn is_denial(&self) -> bool {
        matches!(self, Fault::Service { .. }) && self.kind() == ErrorKind::Denied
    }

    /// Whether the server understood the request and refused it.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Fault::Service { status: 400..=499 | 501, .. })
    }

    /// What kind of failure it is.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Fault::NoCredentials | Fault::Authorities { .. } => ErrorKind::Denied,
            Fault::NoObject => ErrorKind::NotFound,
            Fault::NoBucket | Fault::NoTable => ErrorKind::Unavailable,
            Fault::Service { status, code, .. } => kind_of(*status, code),
            Fault::Connection(reason) if is_distrust(reason) => ErrorKind::Denied,
            Fault::Connection(_) => ErrorKind::Transient,
            Fault::Protocol(_) => ErrorKind::Protocol,
            Fault::Refused(refused) => refused.kind(),
        }
    }

    /// What to do next; `actions` are those that the access key's policy must allow.
    pub(crate) fn hint(&self, actions: &str) -> Option<String> {
        let hint = match self {
            Fault::NoCredentials => {
                "declare access_key_id and secret_access_key, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            }
            Fault::Authorities { .. } => "mend or unset AWS_CA_BUNDLE",
            Fault::NoBucket => "create the bucket, or mend the declared bucket or endpoint",
            Fault::NoTable => "create the table, or mend the declared table, region or endpoint",
            Fault::Service { code, .. } if code == "RequestTimeTooSkewed" => "set this host's clock",
            Fault::Service { status: 301, .. } => "declare the region that the bucket is in",
            Fault::Service { code, .. } if code == "AuthorizationHeaderMalformed" => {
                "declare the region that the bucket is in"
            }
            Fault::Service { status, code, .. }
                if matches!(status, 401 | 403) || DENIALS.contains(&code.as_str()) =>
            {
                return Some(format!("check the access key, and that its policy allows {actions}"));
            }
            Fault::Connection(reason) if is_distrust(reason) => {
                "add the server's authority to the system's, or to AWS_CA_BUNDLE"
            }
            Fault::Connection(_) => "check the endpoint and the network",
            other if other.kind() == ErrorKind::Full => "free space, or raise the quota",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

fn is_distrust(reason: &str) -> bool {
    reason.contains("invalid peer certificate")
}

/// Codes with which DynamoDB refuses an access key; it answers 400 with all of them ("Error handling" of its guide).
const DENIALS: [&str; 7] = [
    "AccessDeniedException",
    "ExpiredTokenException",
    "IncompleteSignatureException",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
];

/// Codes with which DynamoDB, CloudFormation and RDS ask to come back later, with 400 as well.
const LATER: [&str; 13] = [
    "Throttling",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "LimitExceededException",
    "ResourceInUseException",
    "BackupInUseException",
    "TableInUseException",
    "ContinuousBackupsUnavailableException",
    "InvalidDBInstanceState",
    "InvalidDBInstanceStateFault",
    "InvalidDBSnapshotState",
    "InvalidDBSnapshotStateFault",
];

/// Codes of AWS ("Error responses" of the API references) and of MinIO.
fn kind_of(status: u16, code: &str) -> ErrorKind {
    match (status, code) {
        (507, _) | (_, "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" | "QuotaExceeded") => {
            ErrorKind::Full
        }
        (301 | 401 | 403, _) | (_, "AuthorizationHeaderMalformed" | "InvalidRegionName") => ErrorKind::Denied,
        (400, code) if DENIALS.contains(&code) => ErrorKind::Denied,
        (400, code) if LATER.contains(&code) => ErrorKind::Transient,
        // What arrived is not what was sent: it may be the next time.
        (_, "BadDigest" | "XAmzContentChecksumMismatch" | "XAmzContentSHA256Mismatch" | "IncompleteBody") => {
            ErrorKind::Transient
        }
        (404, _) => ErrorKind::NotFound,
        (501, _) => ErrorKind::Protocol,
        (408 | 409 | 429 | 500.., _) | (_, "RequestTimeout" | "SlowDown") => ErrorKind::Transient,
        _ => ErrorKind::Protocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_classed_by_what_happens_next() {
        let cases = [
            (403, "SignatureDoesNotMatch", ErrorKind::Denied),
            (301, "PermanentRedirect", ErrorKind::Denied),
            (400, "AuthorizationHeaderMalformed", ErrorKind::Denied),
            (507, "XMinioStorageFull", ErrorKind::Full),
            (503, "SlowDown", ErrorKind::Transient),
            (500, "InternalError", ErrorKind::Transient),
            (501, "NotImplemented", ErrorKind::Protocol),
            (400, "BadDigest", ErrorKind::Transient),
            (400, "InvalidArgument", ErrorKind::Protocol),
            (400, "UnrecognizedClientException", ErrorKind::Denied),
            (400, "ProvisionedThroughputExceededException", ErrorKind::Transient),
            (400, "Throttling", ErrorKind::Transient),
            (400, "InvalidDBInstanceState", ErrorKind::Transient),
            (400, "ValidationException", ErrorKind::Protocol),
        ];
        for (status, code, kind) in cases {
            assert_eq!(service(status, code, "why").kind(), kind, "{status} {code}");
        }
        assert_eq!(service(404, "NoSuchBucket", "").kind(), ErrorKind::Unavailable);
        assert_eq!(service(404, "NoSuchKey", "").kind(), ErrorKind::NotFound);
        assert_eq!(service(400, "ResourceNotFoundException", "").kind(), ErrorKind::Unavailable);
    }
}
