//! What a host lets machines be made by: all of it must be listed, and each refusal names the line to add.

use std::{fs, os::unix::fs::PermissionsExt};

use backstay::{
    config::Config,
    drivers::{Drivers, Registry},
    inventory::Running,
    spec::{Spec, parse::parse},
    state::StateDir,
    templates::Templates,
};

use crate::checkout::declaration;

/// A declared machine, of the hypervisor `uri`.
fn declared(folder: &std::path::Path, uri: &str) -> Spec {
    let identity = folder.join("identity");
    let text = format!(
        "{}\n[vm.web]\ntemplate = \"cloud-init.yaml.tera\"\nconfigure.ansible = {{ playbook = \"site.yml\" }}\n\
         ssh = {{ identity = {{ file = \"{}\" }} }}\n\
         [vm.web.libvirt]\nuri = \"{uri}\"\nimage = \"/images/base.qcow2\"\ndisks = \"/disks\"\n",
        declaration("30d"),
        identity.display()
    );
    let parsed = parse(&[("fleet.toml".to_owned(), text.into_bytes())].into());
    parsed.spec.unwrap_or_else(|| panic!("{:#?}", parsed.diagnostics))
}

fn drivers(folder: &std::path::Path, allow: &str) -> Drivers {
    let text = format!(
        "state_dir = \"state\"\n[repo]\nurl = \"/infra.git\"\n[keys]\ndir = \"keys\"\n[allow]\n{allow}\n"
    );
    let config = Config::parse("backstay.toml", text.as_bytes(), folder)
        .unwrap_or_else(|faults| panic!("{faults:#?}"));
    Drivers::new(config, Vec::new(), &StateDir::open(folder.join("state")).unwrap())
}

async fn refusal(folder: &std::path::Path, allow: &str, uri: &str) -> Option<String> {
    let (drivers, spec) = (drivers(folder, allow), declared(folder, uri));
    let vm = &spec.vms["web"];
    let refused = drivers.provisioner(&spec.fleet.name, vm, &Templates::default()).await.err();
    let listed = drivers.refused(&spec).into_iter().any(|it| it.resource == "vm.web");
    // A URI that can't be used at all is told when it is used; what is not allowed is told by `plan`, too.
    assert!(listed == refused.is_some() || uri.contains("ssh"), "{refused:?}");
    refused.map(|refusal| refusal.to_string())
}

#[tokio::test]
async fn a_machine_is_made_only_by_what_the_host_lists() {
    let folder = tempfile::tempdir().unwrap();
    let identity = folder.path().join("identity");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&identity)
        .status();
    assert!(made.unwrap().success());
    fs::set_permissions(&identity, fs::Permissions::from_mode(0o600)).unwrap();
    let secrets = format!("secrets = [{{ path = \"{}\", hosts = [\"web\"] }}]", identity.display());
    let lines = [
        "machines = [\"qemu:///system\", \"qemu+ssh://host/system\"]",
        "read = [\"/images\"]",
        "write = [\"/disks\"]",
        "run = [\"ansible-playbook\"]",
        &secrets,
    ];
    let all = lines.join("\n");
    assert_eq!(refusal(folder.path(), &all, "qemu:///system").await, None);
    for (missing, list) in lines.iter().zip(["machines", "read", "write", "run", "secrets"]) {
        let refused = refusal(folder.path(), &all.replace(missing, ""), "qemu:///system").await.unwrap();
        assert!(refused.contains(list) && refused.contains("does not allow it"), "{list}: {refused}");
    }
    let other = refusal(folder.path(), &all, "qemu:///session").await.unwrap();
    assert!(other.contains("qemu:///session"), "{other}");
    let remote = refusal(folder.path(), &all, "qemu+ssh://host/system").await.unwrap();
    assert!(remote.contains("one of this host"), "{remote}");
}

#[tokio::test]
async fn programs_run_only_where_address_and_key_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let identity = folder.path().join("identity");
    let allow = format!("secrets = [{{ path = \"{}\", hosts = [\"web\"] }}]", identity.display());
    let (drivers, spec) = (drivers(folder.path(), &allow), declared(folder.path(), "qemu:///system"));
    let vm = &spec.vms["web"];
    let unknown = drivers.remote(vm, &Running::default()).await.err().unwrap().to_string();
    assert!(unknown.contains("its address is not known"), "{unknown}");
    let mut vm = vm.clone();
    vm.ssh.as_mut().unwrap().host = Some("web.example.org".to_owned());
    let unpinned = drivers.remote(&vm, &Running::default()).await.err().unwrap().to_string();
    assert!(unpinned.contains("its key is not known"), "{unpinned}");
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGGPZ6c5vS8kIh1bmjnSGOzTgVRkZ9kTXCe0hRuRTfYX";
    let running = Running { host_key: Some(key.to_owned()), ..Running::default() };
    assert!(drivers.remote(&vm, &running).await.is_ok());
    vm.ssh.as_mut().unwrap().host = Some("-oProxyCommand=id".to_owned());
    assert!(drivers.remote(&vm, &running).await.is_err());
}
