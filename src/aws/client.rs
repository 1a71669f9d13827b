//! The client: TLS by rustls, timeouts on silence, no retries of its own.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Config, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        SharedHttpClient, StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig,
    },
};
use aws_smithy_http_client::{
    Connector,
    proxy::ProxyConfig,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector, http_client_fn};

use super::{Fault, S3Credentials, S3Options};
use crate::spec::Addressing;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How much longer than its silence a server may take over one request: the answer to a part of 8 MiB comes only when
/// all of it went over a slow line. A line that stands still is noticed sooner, by the protection against stalls.
const SLOWNESS: u32 = 5;

/// A client for the bucket of `options`.
pub(crate) fn client(options: &S3Options) -> Result<Client, Fault> {
    let read = options.silence * SLOWNESS;
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(options.region.clone()))
        .credentials_provider(credentials(&options.credentials)?)
        .force_path_style(options.addressing == Addressing::Path)
        .http_client(http_client(options, read)?)
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).read_timeout(read).build())
        .stalled_stream_protection(
            StalledStreamProtectionConfig::enabled().grace_period(options.silence).build(),
        )
        // Checksums are SHA-256, given with each put and asked for with each read of a whole object.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = &options.endpoint {
        config = config.endpoint_url(endpoint);
    }
    Ok(Client::from_conf(config.build()))
}

fn credentials(credentials: &S3Credentials) -> Result<Credentials, Fault> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    match credentials {
        S3Credentials::Key { id, secret } => {
            Ok(Credentials::new(id, secret.as_str(), None, None, "declaration"))
        }
        S3Credentials::Environment => {
            let key = variable("AWS_ACCESS_KEY_ID").zip(variable("AWS_SECRET_ACCESS_KEY"));
            let (id, secret) = key.ok_or(Fault::NoCredentials)?;
            Ok(Credentials::new(id, secret, variable("AWS_SESSION_TOKEN"), None, "environment"))
        }
    }
}

fn http_client(options: &S3Options, read: Duration) -> Result<SharedHttpClient, Fault> {
    let endpoint = options.endpoint.as_deref().unwrap_or("https://");
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
