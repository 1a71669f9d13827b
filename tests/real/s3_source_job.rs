//! A commit declares a bucket, and the built program backs it up and brings it back.

use std::{fs, path::Path, process::Command};

use aws_sdk_s3::{
    Client,
    primitives::ByteStream,
    types::{BucketVersioningStatus, VersioningConfiguration},
};

use crate::lab::{
    fleet::Fleet,
    s3::{KEY_ID, Minio, SECRET, client},
};

fn declare(fleet: &Fleet, endpoint: &str, keys: &str) {
    let bucket = format!("bucket = \"uploads\"\nprefix = \"in\"\nendpoint = \"{endpoint}\"\n{keys}");
    fleet.declare("uploads", &format!("[backup.uploads.s3]\n{bucket}"));
}

async fn put(client: &Client, key: &str, content: &str) {
    let body = ByteStream::from(content.as_bytes().to_vec());
    client.put_object().bucket("uploads").key(key).content_type("text/x").body(body).send().await.unwrap();
}

async fn content(client: &Client, bucket: &str, key: &str) -> String {
    let object = client.get_object().bucket(bucket).key(key).send().await.unwrap();
    assert_eq!(object.content_type(), Some("text/x"));
    String::from_utf8(object.body.collect().await.unwrap().to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_backs_up_a_bucket_that_comes_back_beside_the_original_and_over_it() {
    let minio = Minio::start();
    let client = client(&minio.options());
    for bucket in ["uploads", "copy"] {
        client.create_bucket().bucket(bucket).send().await.unwrap();
    }
    for number in 0..50 {
        put(&client, &format!("in/{number}"), &format!("content {number}")).await;
    }
    let root = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::new();
    let (id, secret) = (fleet.secret(KEY_ID), fleet.secret(SECRET));
    let keys = format!("access_key_id = {id}\nsecret_access_key = {secret}\n");
    declare(&fleet, &minio.options().endpoint.unwrap(), &keys);
    fleet.expect(&["apply", "--yes"], 0);
    fleet.expect(&["verify", "uploads", "--plaintext"], 0);

    put(&client, "in/7", "overwritten").await;
    client.delete_object().bucket("uploads").key("in/8").send().await.unwrap();
    let folder = root.path().join("restored");
    fleet.expect(&["restore", "uploads", "--to", folder.to_str().unwrap()], 0);
    assert_eq!(fs::read_to_string(folder.join("in/7")).unwrap(), "content 7");
    let said = fleet.expect(&["restore", "uploads", "--to", "bucket:copy/of/yesterday"], 0);
    assert!(said.contains("50 objects put"), "{said}");
    assert_eq!(content(&client, "copy", "of/yesterday/in/8").await, "content 8");
    assert_eq!(content(&client, "uploads", "in/7").await, "overwritten", "the original is untouched");
    let said = fleet.expect(&["restore", "uploads", "--in-place"], 0);
    assert!(said.contains("2 objects put, 48 already there"), "{said}");
    assert_eq!(content(&client, "uploads", "in/7").await, "content 7");
    assert_eq!(content(&client, "uploads", "in/8").await, "content 8");
    let part = root.path().join("part");
    fleet.expect(&["restore", "uploads", "--path", "in/9", "--to", part.to_str().unwrap()], 0);
    assert_eq!(fs::read_to_string(part.join("in/9")).unwrap(), "content 9");
    assert_eq!(fs::read_dir(part.join("in")).unwrap().count(), 1);
    let nothing = root.path().join("nothing");
    let said = fleet.expect(&["restore", "uploads", "--path", "out/", "--to", nothing.to_str().unwrap()], 4);
    assert!(said.contains("the artifact holds nothing at out/") && !nothing.exists(), "{said}");
    fleet.expect(&["backup", "uploads", "--kind", "incremental"], 0);
    fleet.expect(&["restore", "uploads", "--to", "bucket:"], 1);

    fleet.withdraw("uploads");
    let undeclared = format!("{}/", root.path().join("undeclared").display());
    fleet.expect(&["restore", "uploads", "--to", &undeclared], 0);
    assert_eq!(fs::read_to_string(Path::new(&undeclared).join("in/8")).unwrap(), "content 8");
}

/// The policies that the documentation shows, in its order.
fn policies_of_the_page() -> Vec<serde_json::Value> {
    let page = include_str!("../../docs/s3.md");
    let blocks = page.split("```json").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.map(|block| serde_json::from_str(block).unwrap()).collect()
}

/// A key that may do what `policies` allow, and nothing else, as the environment holds it.
fn key_for(endpoint: &str, policies: &[serde_json::Value]) -> [(&'static str, String); 3] {
    let statements: Vec<_> =
        policies.iter().flat_map(|policy| policy["Statement"].as_array().unwrap().clone()).collect();
    let policy = serde_json::json!({ "Version": "2012-10-17", "Statement": statements });
    let asked = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--noproxy",
            "*",
            "--aws-sigv4",
            "aws:amz:us-east-1:sts",
        ])
        .args(["--user", &format!("{KEY_ID}:{SECRET}"), "--data", "Action=AssumeRole&Version=2011-06-15"])
        .arg("--data-urlencode")
        .arg(format!("Policy={policy}"))
        .arg(endpoint)
        .output()
        .unwrap();
    let answer = String::from_utf8(asked.stdout).unwrap();
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    let told = |tag: &str| {
        let (_, rest) = answer.split_once(&format!("<{tag}>")).unwrap();
        rest.split('<').next().unwrap().to_owned()
    };
    [
        ("AWS_ACCESS_KEY_ID", told("AccessKeyId")),
        ("AWS_SECRET_ACCESS_KEY", told("SecretAccessKey")),
        ("AWS_SESSION_TOKEN", told("SessionToken")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_may_do_what_the_page_says_is_enough() {
    let minio = Minio::start();
    let endpoint = minio.options().endpoint.unwrap();
    let client = client(&minio.options());
    client.create_bucket().bucket("uploads").send().await.unwrap();
    let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    client.put_bucket_versioning().bucket("uploads").versioning_configuration(enabled).send().await.unwrap();
    for (key, size) in [("in/a", 1), ("in/a", 2), ("in/large", 20 << 20)] {
        let body = ByteStream::from(vec![7; size]);
        let put = client.put_object().bucket("uploads").key(key).tagging("k=v").content_type("text/x");
        put.body(body).send().await.unwrap();
    }
    let fleet = Fleet::new();
    declare(&fleet, &endpoint, "");
    let policies = policies_of_the_page();
    let (capturing, restoring) = (key_for(&endpoint, &policies[..1]), key_for(&endpoint, &policies));
    fleet.expect_with(&capturing, &["apply", "--yes"], 0);
    for key in ["in/a", "in/large"] {
        client.delete_object().bucket("uploads").key(key).send().await.unwrap();
    }
    let refused = fleet.expect_with(&capturing, &["restore", "uploads", "--in-place"], 4);
    assert!(refused.contains("check the access key") && refused.contains("PutObject"), "{refused}");
    let said = fleet.expect_with(&restoring, &["restore", "uploads", "--in-place"], 0);
    assert!(said.contains("2 objects put"), "{said}");
    let size = client.head_object().bucket("uploads").key("in/large").send().await.unwrap().content_length;
    assert_eq!(size, Some(20 << 20));
}
