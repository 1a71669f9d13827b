//! SSH signatures.

use backstay::git::Mode;

use super::{Scene, fingerprint};

#[tokio::test]
async fn a_commit_by_any_type_of_key_that_is_named_is_trusted_and_its_signer_told() {
    let scene = Scene::new(Mode::Head);
    let kinds: [(&str, &[&str]); 5] = [
        ("ed25519", &["ed25519"]),
        ("p256", &["ecdsa", "-b", "256"]),
        ("p384", &["ecdsa", "-b", "384"]),
        ("p521", &["ecdsa", "-b", "521"]),
        ("rsa", &["rsa", "-b", "2048"]),
    ];
    let mut lines = String::new();
    for (name, kind) in kinds {
        lines += &format!("{name}@example.org {}\n", scene.key(name, kind));
    }
    scene.allow(&lines);
    for (name, _) in kinds {
        scene.commit_by(name, name);
        assert_eq!(scene.verdict().await, Ok(format!("{name}@example.org")));
        let choice = scene.choose(None).await.unwrap();
        assert_eq!(choice.signer.fingerprint, fingerprint(&scene.path(name)));
    }
}

#[tokio::test]
async fn what_is_unsigned_or_by_an_unknown_key_is_not_trusted_and_the_reason_names_both() {
    let scene = Scene::new(Mode::Head);
    let kai = scene.key("kai", &["ed25519"]);
    scene.key("mallory", &["ed25519"]);
    scene.allow(&format!("kai@example.org {kai}\n"));
    let id = scene.unsigned("a");
    let why = scene.verdict().await.unwrap_err();
    assert!(why.contains(&id[..10]) && why.contains("Kai <kai@example.org>"), "{why}");
    assert!(why.ends_with("it is not signed"), "{why}");
    scene.commit_by("mallory", "b");
    let why = scene.verdict().await.unwrap_err();
    assert!(why.contains(&fingerprint(&scene.path("mallory"))), "{why}");
}

#[tokio::test]
async fn a_signature_for_another_purpose_or_of_another_commit_is_none() {
    let scene = Scene::new(Mode::Head);
    let kai = scene.key("kai", &["ed25519"]);
    scene.allow(&format!("kai@example.org namespaces=\"file\" {kai}\n"));
    scene.commit_by("kai", "a");
    let why = scene.verdict().await.unwrap_err();
    assert!(why.contains("`file` only"), "{why}");

    scene.allow(&format!("kai@example.org namespaces=\"file,git\" {kai}\n"));
    assert!(scene.verdict().await.is_ok());
    scene.tamper(|raw| raw.replace("Change a", "Change b"));
    let why = scene.verdict().await.unwrap_err();
    assert!(why.contains("does not fit"), "{why}");
    scene.commit_by("kai", "c");
    scene.tamper(|raw| raw.replace("kai@example.org> 1", "kai@example.org> 2"));
    assert!(scene.verdict().await.is_err());
}

#[tokio::test]
async fn a_signature_that_was_made_for_files_signs_no_commit() {
    let scene = Scene::new(Mode::Head);
    let kai = scene.key("kai", &["ed25519"]);
    scene.allow(&format!("kai@example.org {kai}\n"));
    scene.unsigned("a");
    let payload = scene.repo.git(&["cat-file", "commit", "HEAD"]) + "\n";
    let file = scene.path("payload");
    std::fs::write(&file, &payload).unwrap();
    let signed = std::process::Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", "file", "-f"])
        .arg(scene.path("kai"))
        .arg(&file)
        .output()
        .unwrap();
    assert!(signed.status.success());
    let signature = std::fs::read_to_string(scene.path("payload.sig")).unwrap();
    let header = format!("gpgsig {}\n\n", signature.trim_end().replace('\n', "\n "));
    scene.tamper(|raw| raw.replacen("\n\n", &format!("\n{header}"), 1));
    let why = scene.verdict().await.unwrap_err();
    assert!(why.contains("made for `file`"), "{why}");
}

#[tokio::test]
async fn a_key_counts_within_its_time_by_the_commit_and_not_by_the_clock() {
    let scene = Scene::new(Mode::Head);
    let kai = scene.key("kai", &["ed25519"]);
    scene.allow("");
    scene.commit_by("kai", "a");
    // Committed at 2026-11-20T01:00:00Z.
    for (options, counts) in [
        ("valid-after=\"20261120Z\"", true),
        ("valid-after=\"20261120010000Z\"", true),
        ("valid-after=\"20261120010001Z\"", false),
        ("valid-before=\"20261120010000Z\"", true),
        ("valid-before=\"20261120005959Z\"", false),
        ("valid-after=\"20200101Z\",valid-before=\"20210101Z\"", false),
        ("valid-after=\"20400101Z\"", false),
    ] {
        scene.allow(&format!("kai@example.org {options} {kai}\n"));
        assert_eq!(scene.verdict().await.is_ok(), counts, "{options}");
    }
}

#[tokio::test]
async fn of_several_lines_for_one_key_any_that_permits_it_counts() {
    let scene = Scene::new(Mode::Head);
    let kai = scene.key("kai", &["ed25519"]);
    scene.commit_by("kai", "a");
    scene.allow(&format!(
        "old@example.org valid-before=\"20200101Z\" {kai}\nnew@example.org valid-after=\"20200101Z\" {kai}\n"
    ));
    assert_eq!(scene.verdict().await, Ok("new@example.org".to_owned()));
}

#[tokio::test]
async fn with_every_each_commit_since_the_one_in_force_must_be_signed_also_in_what_was_merged() {
    let scene = Scene::new(Mode::Every);
    let kai = scene.key("kai", &["ed25519"]);
    scene.allow(&format!("kai@example.org {kai}\n"));
    scene.unsigned("before");
    let base = scene.commit_by("kai", "a");
    scene.commit_by("kai", "b");
    assert!(scene.choose(Some(&base)).await.is_ok(), "what was in force already is not asked");

    scene.repo.git(&["checkout", "-q", "-b", "side", &base]);
    let hidden = scene.unsigned("hidden");
    scene.repo.git(&["checkout", "-q", "main"]);
    scene.signed("kai", &["merge", "-q", "-S", "--no-ff", "-m", "Merge", "side"]);
    scene.commit_by("kai", "c");
    let why = scene.choose(Some(&base)).await.unwrap_err().to_string();
    assert!(why.contains(&hidden[..10]) && why.contains("not signed"), "{why}");

    let head = Scene { mode: Mode::Head, ..scene };
    assert!(head.choose(Some(&base)).await.is_ok());
}

#[tokio::test]
async fn files_that_cannot_be_used_are_errors_that_name_the_place() {
    let scene = Scene::new(Mode::Head);
    scene.allow("kai@example.org nonsense\n");
    let error = scene.trust().unwrap_err().to_string();
    assert!(error.contains("allowed") && error.contains("line 1"), "{error}");
    std::fs::write(scene.path("keyring"), "nothing").unwrap();
    scene.allow("");
    assert!(scene.trust().unwrap_err().to_string().contains("no public key"));
    let mut policy = scene.policy();
    policy.keyring = Some(scene.path("missing"));
    assert!(backstay::git::verify::Files::read(&policy).is_err());
}
