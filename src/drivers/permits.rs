//! What this host lets a declaration reach: the paths that it reads and writes, and where each secret may be sent.

use super::{Drivers, Refusal};
use crate::{
    aws::policy,
    spec::{
        self, SecretRef, StorePlace,
        traffic::{AwsReach, LedBy},
    },
};

impl Drivers {
    pub(super) fn permit_store(&self, declared: &spec::Store) -> Result<(), Refusal> {
        match &declared.place {
            StorePlace::Local { path } => Ok(self.allow.check_write(path)?),
            StorePlace::Sftp(sftp) => Ok(self.resolver.permit(&sftp.identity, &sftp.host)?),
            StorePlace::S3(s3) => self.permit_bucket(s3),
            StorePlace::Azblob { .. } | StorePlace::Gcs { .. } => Ok(()),
        }
    }

    fn permit_bucket(&self, s3: &spec::S3) -> Result<(), Refusal> {
        self.permit_key(s3.credentials.as_ref(), &s3_host(s3))
    }

    pub(super) fn permit_key(&self, key: Option<&spec::AwsCredentials>, host: &str) -> Result<(), Refusal> {
        let secrets = key.into_iter().flat_map(|key| [&key.access_key_id, &key.secret_access_key]);
        secrets.into_iter().try_for_each(|secret| Ok(self.resolver.permit(secret, host)?))
    }

    pub(super) fn permit(&self, declared: &spec::Source) -> Result<(), Refusal> {
        match declared {
            spec::Source::Files(files) => {
                files.paths.iter().try_for_each(|path| Ok(self.allow.check_read(path)?))
            }
            spec::Source::Sqlite { path } => Ok(self.allow.check_read(path)?),
            spec::Source::Mysql(mysql) => {
                if let spec::MysqlMethod::Physical { data_dir } = &mysql.method {
                    self.allow.check_read(data_dir)?;
                }
                self.permit_password(&mysql.server)
            }
            spec::Source::Postgres(postgres) => self.permit_password(&postgres.server),
            spec::Source::Influxdb(influxdb) => self.permit_password(&influxdb.server),
            spec::Source::Influxdb2(it) => Ok(self.resolver.permit(&it.token, &host_of_url(&it.url))?),
            spec::Source::S3(s3) => self.permit_bucket(s3),
            spec::Source::Dynamodb(it) => self.permit_key(it.credentials.as_ref(), &dynamodb_host(it)),
            spec::Source::Redis(redis) => match &redis.password {
                Some(password) => Ok(self.resolver.permit(password, &redis.host)?),
                None => Ok(()),
            },
            spec::Source::Etcd(etcd) => etcd.endpoints.iter().try_for_each(|endpoint| {
                let host = host_of_url(endpoint);
                etcd_secrets(etcd).try_for_each(|secret| Ok(self.resolver.permit(secret, &host)?))
            }),
            spec::Source::Mongodb(mongodb) => self.permit_password(&mongodb.server),
            spec::Source::Atlas(it) => [&it.account.client_id, &it.account.client_secret]
                .into_iter()
                .try_for_each(|secret| Ok(self.resolver.permit(secret, &host_of_url(&it.url))?)),
            spec::Source::Rds(it) => self.permit_key(it.credentials.as_ref(), &rds_host(it)),
        }
    }

    /// Whether a restore may replace the data folder that is declared, if one is.
    pub(super) fn permit_data_dir(&self, postgres: &spec::Postgres) -> Result<(), Refusal> {
        match &postgres.method {
            spec::PostgresMethod::Physical { data_dir: Some(path), .. } => {
                Ok(self.allow.check_write(path)?)
            }
            spec::PostgresMethod::Physical { data_dir: None, .. } | spec::PostgresMethod::Logical => Ok(()),
        }
    }

    /// Whether recoveries may switch traffic, with its key.
    pub(super) fn permit_traffic(&self, traffic: &spec::Traffic) -> Result<(), Refusal> {
        self.allow.check_traffic(traffic.what(), traffic.zone())?;
        match &traffic.led_by {
            LedBy::Dns(_, server) => Ok(self.resolver.permit(&server.secret, &server.server)?),
            LedBy::Route53(_, zone) => {
                self.permit_key(zone.reach.credentials.as_ref(), &route53_host(&zone.reach))
            }
            LedBy::LoadBalancer(balancer) => {
                self.permit_key(balancer.reach.credentials.as_ref(), &balancer_host(&balancer.reach))
            }
        }
    }

    fn permit_password(&self, server: &spec::Server) -> Result<(), Refusal> {
        match &server.password {
            Some(password) => Ok(self.resolver.permit(password, host_of(server))?),
            None => Ok(()),
        }
    }
}

/// Where a server's password is sent.
pub(super) fn host_of(server: &spec::Server) -> &str {
    if server.socket.is_some() { "localhost" } else { &server.host }
}

/// Where an access key is sent: the endpoint's host, or AWS.
pub(super) fn s3_host(declared: &spec::S3) -> String {
    let Some(endpoint) = &declared.endpoint else {
        return aws_host("s3", &declared.region);
    };
    host_of_url(endpoint)
}

/// Where the access key of a table is sent: the endpoint's host, or AWS.
pub(super) fn dynamodb_host(declared: &spec::Dynamodb) -> String {
    match &declared.endpoint {
        None => aws_host("dynamodb", &declared.region),
        Some(endpoint) => host_of_url(endpoint),
    }
}

/// Where the access key of an instance is sent: the endpoint's host, or AWS.
pub(super) fn rds_host(declared: &spec::Rds) -> String {
    match &declared.endpoint {
        None => aws_host("rds", &declared.region),
        Some(endpoint) => host_of_url(endpoint),
    }
}

/// Where the access key of a stack is sent: the endpoint's host, or AWS.
pub(super) fn cloudformation_host(declared: &spec::Cloudformation) -> String {
    match &declared.endpoint {
        None => aws_host("cloudformation", &declared.region),
        Some(endpoint) => host_of_url(endpoint),
    }
}

/// Where the access key of a zone is sent: the endpoint's host, or AWS, where each partition has one for all of its regions
/// ("Amazon Route 53 endpoints and quotas").
pub(super) fn route53_host(reach: &AwsReach) -> String {
    let own = || match reach.region.starts_with("us-gov-") {
        true => "route53.us-gov.amazonaws.com".to_owned(),
        false => format!("route53.{}", policy::domain(&reach.region)),
    };
    reach.endpoint.as_deref().map_or_else(own, host_of_url)
}

/// Where the access key of a load balancer is sent: the endpoint's host, or AWS.
pub(super) fn balancer_host(reach: &AwsReach) -> String {
    let own = || aws_host("elasticloadbalancing", &reach.region);
    reach.endpoint.as_deref().map_or_else(own, host_of_url)
}

fn aws_host(service: &str, region: &str) -> String {
    format!("{service}.{region}.{}", policy::domain(region))
}

fn etcd_secrets(etcd: &spec::Etcd) -> impl Iterator<Item = &SecretRef> {
    let password = etcd.login.iter().map(|login| &login.password);
    password.chain(etcd.certificate.iter().map(|certificate| &certificate.key))
}

/// The host that a URL leads to.
pub(super) fn host_of_url(url: &str) -> String {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or(host);
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address.to_owned(),
        None => host.split(':').next().unwrap_or(host).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_key_is_bound_to_the_host_of_its_endpoint() {
        let s3 = |endpoint: Option<&str>| spec::S3 {
            bucket: "b".into(),
            region: "eu-north-1".into(),
            endpoint: endpoint.map(str::to_owned),
            prefix: String::new(),
            addressing: spec::Addressing::Path,
            credentials: None,
        };
        for (endpoint, host) in [
            (None, "s3.eu-north-1.amazonaws.com"),
            (Some("http://127.0.0.1:9000"), "127.0.0.1"),
            (Some("https://minio.lan/base"), "minio.lan"),
            (Some("https://good.lan@evil.lan:9000/"), "evil.lan"),
            (Some("http://[::1]:9000"), "::1"),
        ] {
            assert_eq!(s3_host(&s3(endpoint)), host, "{endpoint:?}");
        }
    }

    #[tokio::test]
    async fn the_key_of_a_zone_is_bound_to_the_host_that_it_is_sent_to() {
        use aws_sdk_route53::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
        for region in [
            "us-east-1",
            "eu-north-1",
            "us-gov-west-1",
            "cn-north-1",
            "eusc-de-east-1",
            "us-iso-east-1",
            "us-isob-east-1",
            "eu-isoe-west-1",
            "us-isof-south-1",
        ] {
            let params = Params::builder().region(region.to_owned()).build().unwrap();
            let resolver = DefaultResolver::new();
            let sent_to = ResolveEndpoint::resolve_endpoint(&resolver, &params).await.unwrap();
            let reach = AwsReach { region: region.to_owned(), endpoint: None, credentials: None };
            assert_eq!(route53_host(&reach), host_of_url(sent_to.url()), "{region}");
        }
        let endpoint = Some("http://127.0.0.1:5000".to_owned());
        let reach = AwsReach { region: "us-gov-west-1".to_owned(), endpoint, credentials: None };
        assert_eq!(route53_host(&reach), "127.0.0.1");
    }

    #[test]
    fn an_access_key_goes_to_the_partition_of_its_region() {
        for (region, host) in [
            ("eu-north-1", "rds.eu-north-1.amazonaws.com"),
            ("cn-northwest-1", "rds.cn-northwest-1.amazonaws.com.cn"),
            ("us-gov-west-1", "rds.us-gov-west-1.amazonaws.com"),
        ] {
            assert_eq!(aws_host("rds", region), host);
        }
    }
}
