//! Stacks by hand: what a runbook prints for CloudFormation, typed into a shell with AWS's own command line.

use std::{fs, process::Command};

use serde_json::Value;

use crate::{
    by_hand::lines_of,
    cloudformation::things,
    drill::told,
    lab::{
        fleet::Fleet,
        moto::{KEY_ID, Moto, REGION, SECRET},
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_is_made_by_what_the_runbook_prints_and_is_backstays_own_afterwards() {
    let (moto, mut fleet) = (Moto::with_stacks(), Fleet::new());
    fleet.allow_machines(&format!("cloudformation:{REGION}"));
    let (id, secret) = (fleet.secret(KEY_ID), fleet.secret(SECRET));
    let data = fleet.readable();
    fs::create_dir_all(&data).unwrap();
    fleet.declare(
        "pages",
        &format!(
            r##"
            files = {{ paths = ["{}"] }}
            [vm.web]
            template = "cloudformation-vm.yaml.tera"
            vars = {{ image = "ami-12c6146b", user_data = "#cloud-config\nruncmd: [\"echo 'it''s up'\"]\n" }}
            [vm.web.cloudformation]
            region = "{REGION}"
            endpoint = "{}"
            access_key_id = {id}
            secret_access_key = {secret}
            [recovery.site]
            steps = [{{ rebuild = "web" }}]
            "##,
            data.display(),
            moto.endpoint()
        ),
    );
    let before = things(&moto).await;
    let folder = tempfile::tempdir().unwrap();
    fleet.expect(&["runbook", "--out", &folder.path().display().to_string()], 0);
    let document = fs::read_to_string(folder.path().join("site.md")).unwrap();
    for file in ["stack", "parameters.json", "tags.json"] {
        assert!(folder.path().join("site.files/web").join(file).is_file(), "{file}: {document}");
    }
    let lines = lines_of(&document);
    assert!(lines.iter().any(|line| line.starts_with("aws cloudformation create-stack ")), "{lines:?}");
    let typed = type_in(&lines, &folder);
    assert!(typed.status.success(), "{lines:?}\n{}", String::from_utf8_lossy(&typed.stderr));
    let made = things(&moto).await;
    let instances = made.difference(&before).filter(|thing| thing.starts_with("i-")).count();
    assert_eq!(instances, 1, "{made:?}");

    // It bears the marks of Backstay's own, which would make nothing beside it.
    let status = told(&fleet.expect(&["status", "-o", "json"], 4));
    let web: &Value = &status["machines"]["web"]["machine"]["known"];
    assert_eq!(web["state"], "running", "{status:#}");
    // Whoever types it once more makes nothing twice.
    assert!(!type_in(&lines, &folder).status.success());
    assert_eq!(things(&moto).await, made);
}

/// Types these lines into one shell.
fn type_in(lines: &[String], folder: &tempfile::TempDir) -> std::process::Output {
    let mut shell = Command::new("timeout");
    shell.args(["300", "sh", "-euc", &lines.join("\n")]).current_dir(folder.path());
    for name in ["AWS_CA_BUNDLE", "AWS_PROFILE", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        shell.env_remove(name);
    }
    shell.env("AWS_ACCESS_KEY_ID", KEY_ID).env("AWS_SECRET_ACCESS_KEY", SECRET).env("AWS_PAGER", "");
    shell.output().unwrap()
}
