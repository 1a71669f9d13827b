//! A commit declares a MongoDB database, and the built program backs it up and brings it back.

use bson::{RawDocumentBuf, doc};

use crate::lab::{
    fleet::Fleet,
    mongodb::{Mongodb, PASSWORD, USER},
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
