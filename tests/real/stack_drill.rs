//! A commit declares a stack of CloudFormation and the drill of its recovery, and the built program tries that on a stack of its own.

use crate::{
    cloudformation::things,
    lab::{
        fleet::Fleet,
        moto::{KEY_ID, Moto, REGION, SECRET},
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_is_tried_on_a_stack_of_its_own_and_the_one_that_runs_stays() {
    let (moto, mut fleet) = (Moto::with_stacks(), Fleet::new());
    let endpoint = moto.endpoint();
    fleet.allow_machines(&format!("cloudformation:{REGION}"));
    let (id, secret) = (fleet.secret(KEY_ID), fleet.secret(SECRET));
    let data = fleet.readable();
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("page"), "content").unwrap();
    fleet.declare(
        "pages",
        &format!(
            r#"
            files = {{ paths = ["{}"] }}
            [vm.web]
            template = "cloudformation-vm.yaml.tera"
            vars = {{ image = "ami-12c6146b" }}
            [vm.web.cloudformation]
            region = "{REGION}"
            endpoint = "{endpoint}"
            access_key_id = {id}
            secret_access_key = {secret}
            [recovery.site]
            rto = "1h"
            steps = [{{ rebuild = "web" }}, {{ restore = "pages" }}, {{ run = ["true"], stage = "traffic" }}]
            [drill.site]
            recovery = "site"
            schedule = "0 5 1 */3 *"
            "#,
            data.display()
        ),
    );
    fleet.expect(&["rebuild", "web"], 0);
    let running = things(&moto).await;
    assert_eq!(running.iter().filter(|thing| thing.starts_with("i-")).count(), 1, "{running:?}");

    // The drill of this quarter is due.
    let applied = fleet.expect(&["apply", "--yes"], 0);
    assert!(applied.contains("drill site"), "{applied}");
    assert_eq!(things(&moto).await, running);
    let planned = fleet.expect(&["drill", "site", "--dry-run"], 0);
    assert!(planned.contains("1 make machine web") && planned.contains("left out: step 2"), "{planned}");
    let told = fleet.expect(&["drill", "site", "-o", "json"], 0);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let drill = &told["drills"][0];
    assert_eq!((&drill["outcome"], &drill["left_out"]), (&"passed".into(), &2.into()), "{drill:#}");
    assert_eq!(drill["parts"][0]["part"], "provision", "{drill:#}");
    assert_eq!(things(&moto).await, running, "its own is removed, and the one that runs is not");
    let status = fleet.expect(&["status"], 0);
    assert!(status.contains("recovery site") && status.contains("passed"), "{status}");
}
