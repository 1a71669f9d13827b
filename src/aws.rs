//! What drivers of AWS's services share, and of whatever speaks their protocols: how a bucket, a table or a stack is
//! reached, what goes wrong, and uploads in parts.

mod answer;
mod client;
mod fault;
pub(crate) mod policy;
mod upload;

use std::{fmt, time::Duration};

use zeroize::Zeroizing;

pub(crate) use self::{
    answer::{account_of, date_time, size_of, timestamp},
    client::{cloudformation, dynamodb, load_balancing, rds, route53, s3},
    fault::Fault,
    upload::{Request as UploadRequest, Upload, confirmed, digest},
};
use crate::spec::Addressing;

/// How a bucket is reached.
#[derive(Clone, Debug)]
pub struct S3Options {
    /// The bucket's name; it must exist.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// URL, where it isn't AWS.
    pub endpoint: Option<String>,
    /// Folder in the bucket, without slashes at its ends; may be empty.
    pub prefix: String,
    /// How the bucket stands in URLs.
    pub addressing: Addressing,
    /// With which access key.
    pub credentials: AwsCredentials,
    /// Silence of the server that ends a call.
    pub silence: Duration,
}

/// How a table of DynamoDB is reached.
#[derive(Clone, Debug)]
pub struct DynamodbOptions {
    /// The table's name.
    pub table: String,
    /// Its region.
    pub region: String,
    /// URL, where it isn't AWS.
    pub endpoint: Option<String>,
    /// With which access key.
    pub credentials: AwsCredentials,
    /// Silence of the server that ends a call.
    pub silence: Duration,
}

/// How an instance of RDS is reached.
#[derive(Clone, Debug)]
pub struct RdsOptions {
    /// The instance's identifier.
    pub instance: String,
    /// Its region.
    pub region: String,
    /// URL, where it isn't AWS.
    pub endpoint: Option<String>,
    /// With which access key.
    pub credentials: AwsCredentials,
    /// Silence of the server that ends a call.
    pub silence: Duration,
}

/// How stacks of CloudFormation are reached.
#[derive(Clone, Debug)]
pub struct CloudformationOptions {
    /// The region that they are in.
    pub region: String,
    /// URL, where it isn't AWS.
    pub endpoint: Option<String>,
    /// With which access key.
    pub credentials: AwsCredentials,
    /// Silence of the server that ends a call.
    pub silence: Duration,
}

/// How a service of AWS is reached, whatever of it is asked for.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// The region.
    pub region: String,
    /// URL, where it isn't AWS.
    pub endpoint: Option<String>,
    /// With which access key.
    pub credentials: AwsCredentials,
    /// Silence of the server that ends a call.
    pub silence: Duration,
}

/// Silence of a server that ends a call, unless declared otherwise.
pub const DEFAULT_SILENCE: Duration = Duration::from_secs(60);

/// An access key.
#[derive(Clone)]
pub enum AwsCredentials {
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN` of the environment.
    Environment,
    /// This one.
    Key {
        /// Its public half.
        id: String,
        /// Its secret half.
        secret: Zeroizing<String>,
    },
}

impl fmt::Debug for AwsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AwsCredentials::Environment => f.write_str("Environment"),
            AwsCredentials::Key { id, .. } => f.debug_struct("Key").field("id", id).finish_non_exhaustive(),
        }
    }
}
