//! The real `age`, `zstd` and `ssh-keygen` read what we wrote, by the commands that the formats' pages name.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use backstay::{
    artifact::{Kind, manifest::SIGNATURE_NAMESPACE},
    stores::local::LocalStore,
};

use super::fixture::{Lab, Script, rows};

fn shell(script: &str, dir: &Path) -> Vec<u8> {
    let output = Command::new("bash")
        .args(["-euc", script])
        .current_dir(dir)
        .stderr(Stdio::inherit())
        .output()
        .expect("bash is installed");
    assert!(output.status.success(), "{script}");
    output.stdout
}

#[tokio::test]
async fn an_artifact_is_read_by_a_shell_through_its_index() {
    let lab = Lab::new();
    let root = lab.dir.path().join("store");
    std::fs::create_dir(&root).unwrap();
    let store = LocalStore::new(&root);
    let (first, changed) = (rows(0, 80_000), rows(0, 90_000));
    let full = lab.capture(&store, Kind::Full, None, Script::of(&first)).await.unwrap();
    let next =
        lab.capture(&store, Kind::Incremental, Some(full.artifact), Script::of(&changed)).await.unwrap();
    let folder = root.join("pavroto/agama");
    let identity = lab.identity();
    let restored = shell(
        &format!(
            "grep -E '^[0-9a-f]{{64}} ' packs/{}/index | while read -r hash pack offset length; do
                tail -c +$((offset + 1)) packs/$pack | head -c $length | age -d -i {} | zstd -d
            done",
            next.artifact,
            identity.display(),
        ),
        &folder,
    );
    assert!(restored == changed);
    std::fs::write(folder.join("allowed"), format!("backstay {}\n", lab.keys.public_key())).unwrap();
    let manifest = format!("artifacts/{}.json", next.artifact);
    shell(
        &format!(
            "ssh-keygen -Y verify -f allowed -I backstay -n {SIGNATURE_NAMESPACE} -s {manifest}.sig < {manifest}"
        ),
        &folder,
    );
    let digest = shell(
        &format!("jq -r .sealed {manifest} | base64 -d | age -d -i {} | jq -r .sha256", identity.display()),
        &folder,
    );
    assert_eq!(Some(String::from_utf8(digest).unwrap().trim()), lab.unseal(&next).sha256.as_deref());
}
