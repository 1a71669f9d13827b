//! A commit declares a MongoDB database, and the built program backs it up and brings it back.

use bson::{RawDocumentBuf, doc};

use crate::lab::{
    fleet::Fleet,
    mongodb::{Mongodb, PASSWORD, USER},
    schedules,
};

#[tokio::test]
async fn a_commit_backs_up_a_database_that_comes_back_beside_the_original_and_over_it() {
    let server = Mongodb::start().await;
    let sale = |n: i32| RawDocumentBuf::try_from(&doc! { "_id": n, "what": format!("sale {n}") }).unwrap();
    server.collection("shop", "sale").insert_many((0..5000).map(sale)).await.unwrap();
    let before = server.everything("shop").await;
    let mut fleet = Fleet::new();
    let password = fleet.secret(PASSWORD);
    let source = format!(
        "mongodb = {{ host = \"127.0.0.1\", port = {}, user = \"{USER}\", password = {password}, databases = [\"shop\"] }}",
        server.port()
    );
    fleet.declare("shop", &source);
    fleet.expect(&["apply", "--yes"], 0);
    fleet.expect(&["verify", "shop", "--plaintext"], 0);

    server.collection("shop", "sale").delete_many(doc! { "_id": { "$gt": 10 } }).await.unwrap();
    fleet.expect(&["restore", "shop", "--to", "database:shop_copy"], 0);
    assert!(server.everything("shop_copy").await == before);
    assert!(server.everything("shop").await != before, "the original was touched");
    fleet.expect(&["restore", "shop", "--in-place"], 0);
    assert!(server.everything("shop").await == before);
}

#[tokio::test]
async fn a_server_with_an_oplog_comes_back_to_any_second_and_its_log_begins_anew() {
    let server = Mongodb::start_with_oplog().await;
    let sale = |n: i32| RawDocumentBuf::try_from(&doc! { "_id": n, "what": format!("sale {n}") }).unwrap();
    let sales = server.collection("shop", "sale");
    sales.insert_many((0..500).map(sale)).await.unwrap();
    let mut fleet = Fleet::new();
    let password = fleet.secret(PASSWORD);
    let source = format!(
        "mongodb = {{ host = \"127.0.0.1\", port = {}, user = \"{USER}\", password = {password} }}",
        server.port()
    );
    let policy = schedules::with_log("transactional");
    fleet.declare("shop", &format!("policy = \"transactional\"\n{source}\n{policy}"));
    fleet.expect(&["apply", "--yes"], 0);
    sales.insert_many((500..600).map(sale)).await.unwrap();
    sales.delete_one(doc! { "_id": 7 }).await.unwrap();
    let before = server.everything("shop").await;
    let disaster = server.next_second().await;
    sales.delete_many(doc! { "_id": { "$gt": 10 } }).await.unwrap();
    fleet.expect(&["backup", "shop", "--kind", "log", "--reason", "before the way back"], 0);
    let status = fleet.expect(&["status", "shop"], 0);
    assert!(status.contains("any second of"), "{status}");

    let at = disaster.to_string();
    let early = fleet.expect(&["restore", "shop", "--at", "2026-01-01", "--in-place"], 1);
    assert!(early.contains("2026-01-01"), "{early}");
    let beside = fleet.expect(&["restore", "shop", "--at", &at, "--to", "database:shop_copy"], 1);
    assert!(beside.contains("shop"), "{beside}");
    assert_eq!(sales.count_documents(doc! {}).await.unwrap(), 10, "a refusal changes nothing");
    let told = fleet.expect(&["restore", "shop", "--at", &at, "--in-place"], 0);
    assert!(told.contains("the databases of the archive as of"), "{told}");
    assert!(server.everything("shop").await == before);

    // The restore made the collections anew, of which this server's oplog does not tell.
    fleet.expect(&["backup", "shop", "--kind", "log", "--reason", "after the way back"], 0);
    fleet.expect(&["apply", "--yes"], 0);
    let fulls = fleet.expect(&["list", "shop"], 0).lines().filter(|line| line.contains(" full")).count();
    assert!(fulls >= 2, "a full is made at once");
}
