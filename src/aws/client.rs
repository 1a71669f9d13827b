//! The clients: TLS by rustls, timeouts on silence.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::config::Config as DynamodbConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Config as S3Config, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedHttpClient, StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_smithy_http_client::{
    Connector,
    proxy::ProxyConfig,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector, http_client_fn};

use super::{
    AwsCredentials, CloudformationOptions, DynamodbOptions, Fault, RdsOptions, S3Options, ServiceOptions,
};
use crate::spec::Addressing;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How much longer than its silence a server may take over one request: the answer to a part of 8 MiB comes only when
/// all of it went over a slow line. A line that stands still is noticed sooner, by the protection against stalls.
const SLOWNESS: u32 = 5;

/// How often a call to DynamoDB is made at most, and the first and the longest pause between two: a table that was given
/// little capacity holds readers back for seconds at a time.
const ATTEMPTS: (u32, Duration, Duration) = (8, Duration::from_millis(250), Duration::from_secs(20));

/// The same of a call to services that throttle whoever asks often.
const STACK_ATTEMPTS: (u32, Duration, Duration) = (5, Duration::from_millis(250), Duration::from_secs(10));

/// A client for the bucket of `options`. Makes each call once.
pub(crate) fn s3(options: &S3Options) -> Result<aws_sdk_s3::Client, Fault> {
    let read = options.silence * SLOWNESS;
    let mut config = S3Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(options.region.clone()))
        .credentials_provider(credentials(&options.credentials)?)
        .force_path_style(options.addressing == Addressing::Path)
        .http_client(http_client(options.endpoint.as_deref(), read)?)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts(read))
        .stalled_stream_protection(
            StalledStreamProtectionConfig::enabled().grace_period(options.silence).build(),
        )
        // Checksums are SHA-256, given with each put and asked for with each read of a whole object.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = &options.endpoint {
        config = config.endpoint_url(endpoint);
    }
    Ok(aws_sdk_s3::Client::from_conf(config.build()))
}

/// A client for the table of `options`. Makes calls again that were throttled or whose failure may pass.
pub(crate) fn dynamodb(options: &DynamodbOptions) -> Result<aws_sdk_dynamodb::Client, Fault> {
    let mut config = DynamodbConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(options.region.clone()))
        .credentials_provider(credentials(&options.credentials)?)
        .http_client(http_client(options.endpoint.as_deref(), options.silence)?)
        .retry_config(retries(ATTEMPTS))
        .timeout_config(timeouts(options.silence));
    if let Some(endpoint) = &options.endpoint {
        config = config.endpoint_url(endpoint);
    }
    Ok(aws_sdk_dynamodb::Client::from_conf(config.build()))
}

/// A function that makes a client of a service that throttles whoever asks often: it makes calls again that were throttled or whose
/// failure may pass. The clients have no type in common.
macro_rules! client {
    ($(#[$doc:meta])* $name:ident, $service:ident, $options:ty) => {
        $(#[$doc])*
        pub(crate) fn $name(options: &$options) -> Result<$service::Client, Fault> {
            let mut config = $service::config::Config::builder()
                .behavior_version(BehaviorVersion::v2026_01_12())
                .region(Region::new(options.region.clone()))
                .credentials_provider(credentials(&options.credentials)?)
                .http_client(http_client(options.endpoint.as_deref(), options.silence)?)
                .retry_config(retries(STACK_ATTEMPTS))
                .timeout_config(timeouts(options.silence));
            if let Some(endpoint) = &options.endpoint {
                config = config.endpoint_url(endpoint);
            }
            Ok($service::Client::from_conf(config.build()))
        }
    };
}

client!(
    /// A client for stacks.
    cloudformation, aws_sdk_cloudformation, CloudformationOptions
);
client!(
    /// A client for the instance of `options`.
    rds, aws_sdk_rds, RdsOptions
);
client!(
    /// A client for zones of Route 53.
    route53, aws_sdk_route53, ServiceOptions
);
client!(
    /// A client for load balancers.
    load_balancing, aws_sdk_elasticloadbalancingv2, ServiceOptions
);

fn retries((attempts, first, longest): (u32, Duration, Duration)) -> RetryConfig {
    RetryConfig::standard().with_max_attempts(attempts).with_initial_backoff(first).with_max_backoff(longest)
}

fn timeouts(read: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT).read_timeout(read).build()
}

fn credentials(credentials: &AwsCredentials) -> Result<Credentials, Fault> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    match credentials {
        AwsCredentials::Key { id, secret } => {
            Ok(Credentials::new(id, secret.as_str(), None, None, "declaration"))
        }
        AwsCredentials::Environment => {
            let key = variable("AWS_ACCESS_KEY_ID").zip(variable("AWS_SECRET_ACCESS_KEY"));
            let (id, secret) = key.ok_or(Fault::NoCredentials)?;
            Ok(Credentials::new(id, secret, variable("AWS_SESSION_TOKEN"), None, "environment"))
        }
    }
}

fn http_client(endpoint: Option<&str>, read: Duration) -> Result<SharedHttpClient, Fault> {
    let endpoint = endpoint.unwrap_or("https://");
    let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT).read_timeout(read).build();
    // A proxy of the environment is for the world outside: it could not reach this very host for us.
    let proxy = if is_loopback(endpoint) { ProxyConfig::disabled() } else { ProxyConfig::from_env() };
    let connector = Connector::builder().connector_settings(settings).proxy_config(proxy);
    let connector = if endpoint.starts_with("https:") {
        connector.tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(tls()?).build()
    } else {
        connector.build_http()
    };
    let connector = SharedHttpConnector::new(connector);
    Ok(http_client_fn(move |_, _| connector.clone()))
}

/// The system's authorities, and those of `AWS_CA_BUNDLE`.
fn tls() -> Result<TlsContext, Fault> {
    let mut trusted = TrustStore::default();
    if let Some(path) = std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()) {
        let bundle = std::fs::read(&path).map_err(|error| Fault::Authorities { path: path.into(), error })?;
        trusted = trusted.with_pem_certificate(bundle);
    }
    let context = TlsContext::builder().with_trust_store(trusted).build();
    context.map_err(|error| Fault::Protocol(format!("TLS cannot be set up: {error}")))
}

fn is_loopback(endpoint: &str) -> bool {
    let authority = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_endpoints_of_this_host_are_reached_past_a_proxy() {
        for local in ["http://localhost:9000", "http://127.0.0.1:1/x", "https://[::1]:9000"] {
            assert!(is_loopback(local), "{local}");
        }
        for remote in
            ["https://", "https://s3.example.org", "http://127.0.0.1.example.org", "http://10.0.0.1"]
        {
            assert!(!is_loopback(remote), "{remote}");
        }
    }
}
