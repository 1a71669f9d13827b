//! What real servers say that a user lacks is exactly what makes captures possible, of every source that grants anything.

use std::collections::BTreeSet;

use async_trait::async_trait;
use backstay::{
    artifact::Kind,
    aws::{DynamodbOptions, RdsOptions, S3Options},
    diagnostic::Severity,
    sources::{Lack, Source, dynamodb::DynamodbSource, rds::RdsSource, s3::S3Source},
    spec::TableMethod,
};
use s3s::{
    S3, S3Request, S3Response, S3Result,
    dto::{
        BucketVersioningStatus, ETag, GetBucketVersioningInput, GetBucketVersioningOutput, GetObjectInput,
        GetObjectOutput, GetObjectTaggingInput, GetObjectTaggingOutput, ListObjectVersionsInput,
        ListObjectVersionsOutput, ListObjectsV2Input, ListObjectsV2Output, ObjectVersion, StreamingBlob,
    },
    s3_error,
};
use serde_json::{Value, json};

use crate::{
    lab::{
        etcd::{self, Etcd},
        influxdb::{self, Influx},
        influxdb2::{self, Influx2},
        mongodb::Mongodb,
        moto::Moto,
        redis::{Redis, Sends, USER},
    },
    source_conformance::captured,
};

async fn lacks_for(source: &dyn Source, kinds: &[Kind]) -> Vec<Lack> {
    let kinds: BTreeSet<Kind> = kinds.iter().copied().collect();
    source.lacks(&kinds).await.expect("the server answers")
}

async fn lacks(source: &dyn Source) -> Vec<Lack> {
    lacks_for(source, &[Kind::Full]).await
}

#[tokio::test]
async fn what_a_user_of_redis_lacks_are_the_commands_of_a_replica() {
    let server = Redis::start(Sends::AsMade);
    server.run(&["SET", "a", "1"]);
    assert_eq!(lacks(&server.source()).await, []);
    assert!(server.run(&["INFO", "stats"]).contains("sync_full:0"), "nothing was begun");
    server.run(&["ACL", "SETUSER", USER, "-psync", "-replconf"]);
    let missing = lacks(&server.source()).await;
    assert_eq!(missing[0].remedy, format!("ACL SETUSER {USER} +replconf +psync"));
    server.run(&["ACL", "SETUSER", USER, "+replconf"]);
    let missing = lacks(&server.source()).await;
    assert_eq!(missing[0].remedy, format!("ACL SETUSER {USER} +psync"), "and no more");
    server.run(&missing[0].remedy.split(' ').collect::<Vec<_>>());
    assert_eq!(lacks(&server.source()).await, []);
    captured(&server.source()).await;
}

#[tokio::test]
async fn what_a_user_of_etcd_lacks_is_the_role_that_may_take_snapshots() {
    let mut server = Etcd::start();
    assert_eq!(lacks(&server.source()).await, []);
    server.enable_authentication();
    let reader = etcd::source(&[&server.url()], Some(("reader", etcd::PASSWORD)));
    let missing = lacks(&reader).await;
    assert_eq!(missing[0].remedy, "etcdctl user grant-role reader root");
    let nobody = lacks(&server.source()).await;
    assert!(nobody[0].remedy.contains("declare user and password"), "{nobody:?}");
    server.run(&missing[0].remedy.split(' ').skip(1).collect::<Vec<_>>());
    assert_eq!(lacks(&reader).await, []);
    captured(&reader).await;
}

#[tokio::test]
async fn what_a_user_of_influxdb_lacks_is_what_it_may_not_list() {
    let (server, scratch) = (Influx::start(), tempfile::tempdir().unwrap());
    server.query("CREATE DATABASE tele");
    server.query(&format!("GRANT READ ON tele TO {}", influxdb::READER));
    assert_eq!(lacks(&server.source(&["tele"], scratch.path())).await, []);
    let mut declared = server.declared(&["tele"]);
    declared.server.user = Some(influxdb::READER.to_owned());
    let reader = influxdb::source(declared, influxdb::PASSWORD, scratch.path());
    let missing = lacks(&reader).await;
    assert_eq!(missing[0].severity, Severity::Warning, "{missing:?}");
    assert!(missing[0].what.contains("continuous queries and grants"), "{missing:?}");
    server.query(&missing[0].remedy);
    assert_eq!(lacks(&reader).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_token_of_influxdb2_lacks_is_that_it_is_an_operators() {
    let server = Influx2::start();
    server.make_bucket("tele");
    assert_eq!(lacks(&server.source(&["tele"])).await, []);
    let organization = server.organization();
    let all_access = json!({ "orgID": organization, "permissions": [
        { "action": "read", "resource": { "type": "buckets", "orgID": organization } },
        { "action": "read", "resource": { "type": "orgs", "id": organization } },
    ] });
    let made = server.asked("POST", "/api/v2/authorizations", &all_access.to_string());
    let made: Value = serde_json::from_str(&made).unwrap();
    let token = made["token"].as_str().unwrap();
    let source = influxdb2::source(server.declared(&["tele"]), token);
    source.probe().await.unwrap();
    let missing = lacks(&source).await;
    assert!(missing[0].remedy.starts_with("influx auth create --operator --org"), "{missing:?}");
    assert!(!format!("{missing:?}").contains(token));
}

#[tokio::test]
async fn what_a_server_of_mongodb_lacks_is_an_oplog() {
    let alone = Mongodb::start().await;
    let warned = lacks(&alone.source(&["shop"])).await;
    assert!(warned[0].severity == Severity::Warning && warned[0].what.contains("not of one moment"));
    let missing = lacks_for(&alone.source(&[]), &[Kind::Full, Kind::Log]).await;
    assert!(missing[0].severity == Severity::Error && missing[0].remedy.contains("replSetName"));
    let member = Mongodb::start_with_oplog().await;
    member.database("shop").collection("sale").insert_one(bson::doc! { "a": 1 }).await.unwrap();
    assert_eq!(lacks_for(&member.source(&[]), &[Kind::Full, Kind::Log]).await, []);
}

/// What a remedy allows, for moto, which asks for every action on all resources; with `more` beside it.
fn policy(missing: &[Lack], more: &[&str]) -> Value {
    let mut statements: Vec<Value> =
        missing.iter().map(|lack| serde_json::from_str(&lack.remedy).unwrap()).collect();
    statements.push(json!({ "Effect": "Allow", "Action": more }));
    statements.iter_mut().for_each(|statement| statement["Resource"] = json!("*"));
    json!({ "Version": "2012-10-17", "Statement": statements })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_key_of_dynamodb_lacks_is_what_its_remedy_allows() {
    use aws_sdk_dynamodb::types::{AttributeDefinition, KeySchemaElement};
    let moto = Moto::start();
    let id = AttributeDefinition::builder().attribute_name("id").attribute_type("S".into()).build().unwrap();
    let key = KeySchemaElement::builder().attribute_name("id").key_type("HASH".into()).build().unwrap();
    let table = moto.client().create_table().table_name("orders").attribute_definitions(id).key_schema(key);
    table.billing_mode("PAY_PER_REQUEST".into()).send().await.unwrap();
    let bare = moto.key_for("bare", &policy(&[], &["dynamodb:DescribeTable"])).await;
    let empty = moto.key_for("empty", &policy(&[], &["sts:GetCallerIdentity"])).await;
    let with =
        |credentials| DynamodbSource::new(DynamodbOptions { credentials, ..moto.options("orders") }).unwrap();
    let missing = [
        "dynamodb:Scan",
        "dynamodb:DescribeTimeToLive",
        "dynamodb:ListTagsOfResource",
        "dynamodb:DescribeContinuousBackups",
    ];
    let told: Value = json!({
        "Effect": "Allow", "Action": missing, "Resource": "arn:aws:dynamodb:eu-north-1:*:table/orders"
    });
    // moto guards all or nothing: the key that gets the remedy is made before it does.
    let lack = Lack { severity: Severity::Error, what: String::new(), remedy: told.to_string() };
    let granted = moto.key_for("granted", &policy(&[lack], &["dynamodb:DescribeTable"])).await;
    moto.guard().await;
    let found = lacks(&with(bare)).await;
    assert_eq!(serde_json::from_str::<Value>(&found[0].remedy).unwrap(), told);
    let all = lacks(&with(empty)).await;
    assert!(all[0].what.contains("dynamodb:DescribeTable, dynamodb:Scan"), "{all:?}");
    let source = with(granted);
    assert_eq!(lacks(&source).await, []);
    captured(&source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_key_lacks_for_backups_that_dynamodb_keeps_is_less() {
    use aws_sdk_dynamodb::types::{AttributeDefinition, KeySchemaElement};
    let moto = Moto::start();
    let id = AttributeDefinition::builder().attribute_name("id").attribute_type("S".into()).build().unwrap();
    let key = KeySchemaElement::builder().attribute_name("id").key_type("HASH".into()).build().unwrap();
    let table = moto.client().create_table().table_name("orders").attribute_definitions(id).key_schema(key);
    table.billing_mode("PAY_PER_REQUEST".into()).send().await.unwrap();
    let empty = moto.key_for("empty", &policy(&[], &["sts:GetCallerIdentity"])).await;
    let allowed = ["dynamodb:DescribeTable", "dynamodb:DescribeContinuousBackups", "dynamodb:ListBackups"];
    let granted = moto.key_for("granted", &policy(&[], &allowed)).await;
    moto.guard().await;
    let with = |credentials| {
        let options = DynamodbOptions { credentials, ..moto.options("orders") };
        DynamodbSource::new(options).unwrap().captured_by(TableMethod::Native)
    };
    let found = lacks(&with(empty)).await;
    assert!(
        found[0].remedy.contains("table/orders") && found[1].remedy.contains(r#""Resource":"*""#),
        "{found:?}"
    );
    assert!(!format!("{found:?}").contains("dynamodb:Scan"), "{found:?}");
    assert_eq!(lacks(&with(granted)).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_key_of_rds_lacks_is_what_its_remedy_allows() {
    let moto = Moto::with_rds();
    let create = moto.rds().create_db_instance().db_instance_identifier("customers").engine("mysql");
    let create = create.db_instance_class("db.m5.large").allocated_storage(20);
    create.master_username("admin").master_user_password("not-a-secret-either").send().await.unwrap();
    let empty = moto.key_for("empty", &policy(&[], &["sts:GetCallerIdentity"])).await;
    let told = json!({
        "Effect": "Allow",
        "Action": ["rds:DescribeDBInstances", "rds:DescribeDBInstanceAutomatedBackups", "rds:DescribeDBSnapshots"],
        "Resource": "*"
    });
    let lack = Lack { severity: Severity::Error, what: String::new(), remedy: told.to_string() };
    let granted = moto.key_for("granted", &policy(&[lack], &["sts:GetCallerIdentity"])).await;
    moto.guard().await;
    let with =
        |credentials| RdsSource::new(RdsOptions { credentials, ..moto.instance("customers") }).unwrap();
    let found = lacks(&with(empty)).await;
    assert_eq!(serde_json::from_str::<Value>(&found[0].remedy).unwrap(), told);
    assert_eq!(lacks(&with(granted)).await, []);
}

/// A bucket that keeps versions, with one object; a key may do only what is named.
struct Guarded(Vec<String>);

impl Guarded {
    fn must_allow(&self, action: &str) -> S3Result<()> {
        match self.0.iter().any(|allowed| allowed == action) {
            true => Ok(()),
            false => Err(s3_error!(AccessDenied)),
        }
    }
}

const CONTENT: &str = "content";

fn one_etag() -> ETag {
    ETag::Strong("9a0364b9e99bb480dd25e1f0284c8555".to_owned())
}

#[async_trait]
impl S3 for Guarded {
    async fn get_bucket_versioning(
        &self,
        _: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        self.must_allow("s3:GetBucketVersioning")?;
        let status = Some(BucketVersioningStatus::from_static(BucketVersioningStatus::ENABLED));
        Ok(S3Response::new(GetBucketVersioningOutput { status, ..Default::default() }))
    }

    async fn list_objects_v2(
        &self,
        _: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.must_allow("s3:ListBucket")?;
        Ok(S3Response::new(ListObjectsV2Output::default()))
    }

    async fn list_object_versions(
        &self,
        _: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        self.must_allow("s3:ListBucketVersions")?;
        let version = ObjectVersion {
            key: Some("in/a".to_owned()),
            version_id: Some("v1".to_owned()),
            size: Some(CONTENT.len() as i64),
            e_tag: Some(one_etag()),
            last_modified: Some(std::time::SystemTime::UNIX_EPOCH.into()),
            is_latest: Some(true),
            ..Default::default()
        };
        let versions = Some(vec![version]);
        Ok(S3Response::new(ListObjectVersionsOutput { versions, ..Default::default() }))
    }

    async fn get_object(&self, _: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.must_allow("s3:GetObjectVersion")?;
        let content =
            futures::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from_static(CONTENT.as_bytes()))]);
        Ok(S3Response::new(GetObjectOutput {
            body: Some(StreamingBlob::wrap(content)),
            content_length: Some(CONTENT.len() as i64),
            e_tag: Some(one_etag()),
            last_modified: Some(std::time::SystemTime::UNIX_EPOCH.into()),
            ..Default::default()
        }))
    }

    async fn get_object_tagging(
        &self,
        _: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        self.must_allow("s3:GetObjectVersionTagging")?;
        Ok(S3Response::new(GetObjectTaggingOutput { tag_set: Vec::new(), ..Default::default() }))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_key_of_a_bucket_lacks_is_what_its_remedies_allow() {
    let source = async |allowed: Vec<String>| {
        let options = crate::lab::s3::options(crate::lab::s3::serve(Guarded(allowed)).await);
        S3Source::new(S3Options { prefix: "in".to_owned(), ..options }).unwrap()
    };
    let mut allowed = vec!["s3:GetBucketVersioning".to_owned(), "s3:ListBucket".to_owned()];
    let remedies = |found: Vec<Lack>| -> Vec<Value> {
        found.iter().map(|lack| serde_json::from_str(&lack.remedy).unwrap()).collect()
    };
    let grant = |allowed: &mut Vec<String>, remedy: &Value| {
        let actions = remedy["Action"].as_array().unwrap().iter();
        allowed.extend(actions.map(|action| action.as_str().unwrap().to_owned()));
    };
    let found = remedies(lacks(&source(allowed.clone()).await).await);
    let of_bucket = format!("arn:aws:s3:::{}", crate::lab::s3::BUCKET);
    assert_eq!((found.len(), &found[0]["Resource"]), (1, &json!(of_bucket)), "{found:?}");
    assert_eq!(found[0]["Action"], json!(["s3:ListBucketVersions"]));
    grant(&mut allowed, &found[0]);
    // What can be seen of objects only now.
    let found = remedies(lacks(&source(allowed.clone()).await).await);
    assert_eq!(found[0]["Resource"], json!(format!("{of_bucket}/in/*")), "{found:?}");
    assert_eq!(found[0]["Action"], json!(["s3:GetObjectVersion", "s3:GetObjectVersionTagging"]));
    grant(&mut allowed, &found[0]);
    assert_eq!(lacks(&source(allowed.clone()).await).await, []);
    captured(&source(allowed).await).await;
    let nothing = remedies(lacks(&source(Vec::new()).await).await);
    assert_eq!(nothing[0]["Action"], json!(["s3:GetBucketVersioning", "s3:ListBucket"]));
}
