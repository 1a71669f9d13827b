//! Machines of libvirt, programs on them over ssh, and playbooks, against libvirt and QEMU in software.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    time::{Duration, Instant},
};

use backstay::{
    git::revision,
    inventory::{Machine, MachineAddress, PreviewMark, Running},
    provisioners::{
        Configurer, HostResult, Play, ProvisionError, Provisioner, Remote,
        ansible::AnsibleConfigurer,
        libvirt::{LibvirtOptions, LibvirtProvisioner, public_half},
        login::login,
        ssh::SshRemote,
    },
    secrets::{Allowance, Allowed, Resolver, Secret},
    spec::{Libvirt, OnLoss, Provision, SecretRef, Ssh, Vm, names::VmName},
    stores::Class,
    templates::{Templates, apart::by_program},
};
use tempfile::TempDir;

use crate::lab::{
    free_port,
    libvirt::{Hypervisor, base_image},
    run,
};

/// How long a machine may take until programs run on it: without KVM, beside other tests.
const BOOT: Duration = Duration::from_secs(600);

/// A domain whose network is QEMU's own, with a port of this host forwarded to its sshd: no privileges are needed for it.
const DOMAIN: &str = r#"{% extends "built-in/libvirt-domain.xml.tera" %}
{% block namespaces %} xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'{% endblock %}
{% block network %}{% endblock %}
{% block end %}
  <qemu:commandline>
    <qemu:arg value='-netdev'/>
    <qemu:arg value='user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{{ ssh.port | default(value=0) | xml }}-:22'/>
    <qemu:arg value='-device'/>
    <qemu:arg value='virtio-net-pci,netdev=n0,addr=0x10'/>
  </qemu:commandline>
{% endblock %}
"#;

/// A hypervisor with a declared machine, `web`.
struct Ground {
    hypervisor: Hypervisor,
    folder: TempDir,
    vm: Vm,
    patience: Duration,
}

impl Ground {
    fn new() -> Self {
        let (hypervisor, folder) = (Hypervisor::start(), tempfile::tempdir().unwrap());
        let identity = folder.path().join("identity");
        let path = identity.display().to_string();
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &path]));
        let libvirt = Libvirt {
            uri: hypervisor.uri(),
            image: base_image(),
            disks: hypervisor.disks(),
            disk: None,
            memory: 768 << 20,
            cpus: 2,
            network: "default".to_owned(),
        };
        let ssh = Ssh {
            user: "root".to_owned(),
            host: Some("127.0.0.1".to_owned()),
            port: Some(free_port()),
            identity: SecretRef::File(identity),
            host_key: None,
        };
        let vm = Vm {
            name: "web".parse().unwrap(),
            stands_for: None,
            template: "cloud-init.yaml.tera".to_owned(),
            vars: BTreeMap::from([("virt_type".to_owned(), "qemu".into())]),
            provision: Provision::Libvirt(libvirt),
            ssh: Some(ssh),
            ansible: None,
            on_loss: OnLoss::Report,
        };
        Self { hypervisor, folder, vm, patience: Duration::from_secs(60) }
    }

    fn libvirt(&mut self) -> &mut Libvirt {
        match &mut self.vm.provision {
            Provision::Libvirt(libvirt) => libvirt,
            other => panic!("{other:?}"),
        }
    }

    fn identity(&self) -> PathBuf {
        self.folder.path().join("identity")
    }

    fn provisioner(&self) -> LibvirtProvisioner {
        self.provisioner_of("pavroto")
    }

    fn provisioner_of(&self, fleet: &str) -> LibvirtProvisioner {
        by_program(env!("CARGO_BIN_EXE_backstay"));
        let Provision::Libvirt(libvirt) = &self.vm.provision else { panic!("it is one of libvirt") };
        let key = Secret::new(fs::read_to_string(self.identity()).unwrap());
        let own = BTreeMap::from([("libvirt-domain.xml.tera".to_owned(), DOMAIN.to_owned())]);
        let options = LibvirtOptions {
            controller: "c0".to_owned(),
            fleet: fleet.parse().unwrap(),
            vm: self.vm.clone(),
            libvirt: libvirt.clone(),
            public_key: Some(public_half(&key).unwrap()),
            templates: Templates::of(own),
            patience: self.patience,
        };
        LibvirtProvisioner::new(options).unwrap()
    }

    fn resolver(&self) -> Resolver {
        let secret = Allowed::Path(self.identity());
        Resolver::new(vec![Allowance { secret, hosts: vec!["web".to_owned()] }], Vec::new(), Vec::new())
    }

    async fn remote(&self, running: &Running) -> SshRemote {
        SshRemote::new("web".to_owned(), login(&self.resolver(), &self.vm, running).await.unwrap())
    }
}

fn command(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn quiet(_: &str) {}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_made_reached_configured_and_removed() {
    let mut ground = Ground::new();
    let image = fs::metadata(base_image()).unwrap();
    let running = made(&ground).await;
    reached(&ground, &running).await;
    configured(&ground, running.clone()).await;
    differs(&mut ground).await;
    removed(&ground).await;
    let after = fs::metadata(base_image()).unwrap();
    assert_eq!((image.len(), image.modified().unwrap()), (after.len(), after.modified().unwrap()));
}

async fn made(ground: &Ground) -> Running {
    let provisioner = ground.provisioner();
    assert_eq!(provisioner.observe().await, Ok(Machine::Gone));
    let preview = provisioner.preview(&PreviewMark::drawn(7)).await.unwrap().join("\n");
    assert!(preview.contains("pavroto@web.backstay.qcow2") && preview.contains("2 processors"), "{preview}");
    assert_eq!(
        (ground.hypervisor.files(), ground.hypervisor.virsh(&["list", "--all", "--name"]).trim()),
        (vec![], "")
    );

    let said = Mutex::new(Vec::new());
    let running = provisioner.up(&|line| said.lock().unwrap().push(line.to_owned())).await.unwrap();
    let Some(Ssh { port: Some(port), .. }) = ground.vm.ssh else { panic!("it has a port") };
    assert_eq!(running.address, Some(MachineAddress { host: "127.0.0.1".to_owned(), port }));
    assert!(said.lock().unwrap().len() >= 4, "{said:?}");
    assert_eq!(provisioner.observe().await, Ok(Machine::Running(running.clone())));
    for path in ground.hypervisor.files() {
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(ground.hypervisor.disks().join(&path)).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600, "{path}");
    }

    let before = ground.hypervisor.virsh(&["dumpxml", "web"]);
    let again = provisioner.up(&quiet).await.unwrap_err().to_string();
    assert!(again.contains("is there already"), "{again}");
    assert!(provisioner.preview(&PreviewMark::drawn(7)).await.is_err());
    assert_eq!(ground.hypervisor.virsh(&["dumpxml", "web"]), before);
    running
}

async fn reached(ground: &Ground, running: &Running) {
    let remote = ground.remote(running).await;
    remote.wait(BOOT).await.unwrap();
    let odd = command(&["printf", "%s|", "it's", " a  b ", "$(id)", "*", ""]);
    let minute = Duration::from_secs(60);
    assert_eq!(remote.run(&odd, minute).await.as_deref(), Ok("it's| a  b |$(id)|*||"));
    assert_eq!(remote.run(&command(&["hostname"]), minute).await.as_deref(), Ok("web\n"));

    let failed = remote.run(&command(&["ls", "/nothing"]), minute).await.unwrap_err();
    assert!(
        failed.to_string().contains("exit status 2") && failed.to_string().contains("/nothing"),
        "{failed}"
    );
    let own = remote.run(&command(&["sh", "-c", "exit 255"]), minute).await.unwrap_err();
    assert!(own.to_string().contains("exit status 255"), "{own}");
    let began = Instant::now();
    let late = remote.run(&command(&["sleep", "600"]), Duration::from_secs(10)).await.unwrap_err();
    assert!(late.to_string().contains("did not end within 10s") && began.elapsed() < minute, "{late}");
    let much =
        remote.run(&command(&["sh", "-c", "yes x | head -c 3000000; echo end"]), minute).await.unwrap();
    assert!(much.len() <= 16 * 1024 && much.ends_with("end\n"), "{} bytes", much.len());

    let other = ground.folder.path().join("other");
    run(Command::new("ssh-keygen").args([
        "-q",
        "-t",
        "ed25519",
        "-N",
        "",
        "-f",
        &other.display().to_string(),
    ]));
    let key = fs::read_to_string(other.with_extension("pub")).unwrap();
    let impostor = ground.remote(&Running { host_key: Some(key), ..running.clone() }).await;
    let began = Instant::now();
    for error in [impostor.run(&odd, minute).await.unwrap_err(), impostor.wait(BOOT).await.unwrap_err()] {
        assert_eq!(error.class, Class::Stalled);
        assert!(error.to_string().contains("not the pinned one"), "{error}");
    }
    assert!(began.elapsed() < minute, "somebody else is not waited for");
}

/// A repository with playbooks, and its only revision written into a folder.
fn tree(folder: &Path) -> PathBuf {
    let (repo, tree) = (folder.join("infra"), folder.join("tree"));
    fs::create_dir_all(repo.join("roles/motd/tasks")).unwrap();
    fs::create_dir(&tree).unwrap();
    let write = |path: &str, content: &str| fs::write(repo.join(path), content).unwrap();
    write("site.yml", "- hosts: all\n  gather_facts: false\n  roles: [motd]\n");
    write(
        "roles/motd/tasks/main.yml",
        "- name: say hello\n  copy: { dest: /etc/motd, content: \"hello {{ inventory_hostname }}\" }\n",
    );
    write(
        "hidden.yml",
        "- hosts: web\n  gather_facts: false\n  tasks:\n  - name: hide\n    command: echo hunter2 /nothing\n    failed_when: true\n    no_log: true\n",
    );
    write(
        "fails.yml",
        "- hosts: web\n  gather_facts: false\n  tasks:\n  - name: look\n    command: ls /nothing\n",
    );
    write("nobody.yml", "- hosts: strangers\n  tasks:\n  - ping:\n");
    // What somebody's own settings would do must not be done.
    write("ansible.cfg", "[defaults]\nstdout_callback = minimal\nremote_user = nobody\n");
    let git = |words: &[&str]| {
        let done = Command::new("git").arg("-C").arg(&repo).args(words).status().unwrap();
        assert!(done.success(), "git {words:?}");
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "."]);
    git(&["-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-q", "-m", "playbooks"]);
    revision::write_tree(&repo, "main", &tree).unwrap();
    tree
}

async fn configured(ground: &Ground, running: Running) {
    let tree = tree(ground.folder.path());
    let machines: BTreeMap<VmName, (Vm, Running)> =
        BTreeMap::from([(ground.vm.name.clone(), (ground.vm.clone(), running.clone()))]);
    let configurer = AnsibleConfigurer::new(ground.resolver());
    let play = Play {
        tree: &tree,
        playbook: "site.yml",
        limit: None,
        inventory: None,
        machines: &machines,
        drill: None,
    };
    let said = Mutex::new(Vec::new());
    let said = |line: &str| said.lock().unwrap().push(line.to_owned());
    let first = configurer.run(&play, &said).await.unwrap();
    assert_eq!(first, BTreeMap::from([("web".to_owned(), HostResult { ok: 1, changed: 1, failed: 0 })]));
    let minute = Duration::from_secs(60);
    let motd = ground.remote(&running).await.run(&command(&["cat", "/etc/motd"]), minute).await;
    assert_eq!(motd.as_deref(), Ok("hello web"));
    let second = configurer.run(&Play { limit: Some("web"), ..play }, &quiet).await.unwrap();
    assert_eq!(second["web"], HostResult { ok: 1, changed: 0, failed: 0 });

    let error = |ran: Result<_, ProvisionError>| ran.unwrap_err().to_string();
    let fails = error(configurer.run(&Play { playbook: "fails.yml", ..play }, &quiet).await);
    assert!(fails.contains("task `look` failed on web") && fails.contains("/nothing"), "{fails}");
    let hidden = error(configurer.run(&Play { playbook: "hidden.yml", ..play }, &quiet).await);
    assert!(hidden.contains("task `hide` failed on web") && !hidden.contains("hunter2"), "{hidden}");
    let nobody = error(configurer.run(&Play { playbook: "nobody.yml", ..play }, &quiet).await);
    assert!(nobody.contains("no host"), "{nobody}");
    let mut unreachable = (ground.vm.clone(), running.clone());
    unreachable.0.ssh = None;
    let mut both = machines.clone();
    both.insert("other".parse().unwrap(), unreachable);
    let all = error(configurer.run(&Play { machines: &both, ..play }, &quiet).await);
    assert!(all.contains("could not reach other") && all.contains("declare [vm."), "{all}");
    let one = configurer.run(&Play { machines: &both, limit: Some("web"), ..play }, &quiet).await.unwrap();
    assert_eq!(one.keys().collect::<Vec<_>>(), ["web"]);
    let missing = error(configurer.run(&Play { playbook: "none.yml", ..play }, &quiet).await);
    assert!(missing.contains("the revision has no none.yml"), "{missing}");
    let elsewhere = Running {
        host_key: Some(fs::read_to_string(ground.folder.path().join("other.pub")).unwrap()),
        ..running
    };
    let impostor = BTreeMap::from([(ground.vm.name.clone(), (ground.vm.clone(), elsewhere))]);
    let refused = error(configurer.run(&Play { machines: &impostor, ..play }, &quiet).await);
    assert!(refused.contains("could not reach web"), "{refused}");
}

async fn differs(ground: &mut Ground) {
    let declared = ground.vm.clone();
    ground.libvirt().memory = 1 << 30;
    ground.libvirt().cpus = 1;
    ground.vm.vars.insert("hostname".to_owned(), "other".into());
    let Ok(Machine::Running(running)) = ground.provisioner().observe().await else { panic!("it runs") };
    assert_eq!(running.drift.len(), 3, "{:?}", running.drift);
    ground.vm = declared;
    ground.hypervisor.virsh(&["suspend", "web"]);
    let paused = ground.provisioner().observe().await;
    assert!(matches!(&paused, Ok(Machine::Broken { why }) if why.contains("paused")), "{paused:?}");
    let foreign = ground.provisioner_of("other-fleet");
    assert!(matches!(foreign.observe().await, Ok(Machine::Broken { why }) if why.contains("pavroto")));
    assert!(foreign.down(&quiet).await.unwrap_err().to_string().contains("pavroto"));
    assert!(foreign.up(&quiet).await.unwrap_err().to_string().contains("pavroto"));
}

async fn removed(ground: &Ground) {
    let neighbour = ground.hypervisor.disks().join("neighbour.qcow2");
    fs::write(&neighbour, "somebody's").unwrap();
    ground.provisioner().down(&quiet).await.unwrap();
    assert_eq!(ground.hypervisor.files(), ["neighbour.qcow2"]);
    assert_eq!(ground.hypervisor.virsh(&["list", "--all", "--name"]).trim(), "");
    assert_eq!(ground.provisioner().observe().await, Ok(Machine::Gone));
    ground.provisioner().down(&quiet).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_made_is_never_touched() {
    let mut ground = Ground::new();
    let xml = ground.folder.path().join("domain.xml");
    let domain = |name: &str, disk: &Path| {
        let disk = disk.display();
        format!(
            "<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><os><type arch='x86_64'>hvm</type></os>\
             <devices><disk type='file'><source file='{disk}'/><target dev='vda' bus='virtio'/></disk></devices></domain>"
        )
    };
    fs::write(&xml, domain("web", Path::new("/nowhere"))).unwrap();
    ground.hypervisor.virsh(&["define", &xml.display().to_string()]);
    let (provisioner, before) = (ground.provisioner(), ground.hypervisor.virsh(&["dumpxml", "web"]));
    let stands = provisioner.observe().await;
    assert!(
        matches!(&stands, Ok(Machine::Broken { why }) if why.contains("not made by Backstay")),
        "{stands:?}"
    );
    for refused in [
        provisioner.preview(&PreviewMark::drawn(7)).await.map(drop),
        provisioner.up(&quiet).await.map(drop),
        provisioner.down(&quiet).await,
    ] {
        assert!(refused.unwrap_err().to_string().contains("not made by Backstay"));
    }
    assert_eq!(ground.hypervisor.virsh(&["dumpxml", "web"]), before);
    ground.hypervisor.virsh(&["undefine", "web"]);

    // What is left of a machine, and has become another domain's disk.
    let left = ground.hypervisor.disks().join("pavroto@web.backstay.qcow2");
    fs::write(&left, "data").unwrap();
    let stands = provisioner.observe().await;
    assert!(matches!(&stands, Ok(Machine::Broken { why }) if why.contains("is left")), "{stands:?}");
    assert!(provisioner.up(&quiet).await.unwrap_err().to_string().contains("is left"));
    fs::write(&xml, domain("adopted", &left)).unwrap();
    ground.hypervisor.virsh(&["define", &xml.display().to_string()]);
    assert!(provisioner.down(&quiet).await.unwrap_err().to_string().contains("the domain `adopted` has it"));
    assert_eq!(fs::read(&left).unwrap(), b"data");
    ground.hypervisor.virsh(&["undefine", "adopted"]);
    provisioner.down(&quiet).await.unwrap();
    assert_eq!(ground.hypervisor.files(), Vec::<String>::new());

    // Nobody who would know says that a machine is gone.
    ground.hypervisor.kill();
    let unknown = provisioner.observe().await.unwrap_err();
    assert!(unknown.class == Class::Retry && unknown.to_string().contains("libvirtd"), "{unknown}");
    ground.hypervisor.restart();
    assert_eq!(provisioner.observe().await, Ok(Machine::Gone));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_cannot_be_made_is_told_in_bounded_time() {
    let mut ground = Ground::new();
    let images = tempfile::tempdir().unwrap();
    let (garbage, empty) = (images.path().join("garbage.qcow2"), images.path().join("empty.qcow2"));
    fs::write(&garbage, "no image").unwrap();
    run(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2", &empty.display().to_string(), "64M"]));

    for (image, disk, why) in [
        (garbage, None, "must be a qcow2 image"),
        (images.path().join("none.qcow2"), None, "must be a qcow2 image"),
        (empty.clone(), Some(1 << 20), "declare a disk of that size"),
    ] {
        ground.libvirt().image = image;
        ground.libvirt().disk = disk;
        let refused = ground.provisioner().up(&quiet).await.unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
        assert!(ground.provisioner().preview(&PreviewMark::drawn(7)).await.is_err());
        assert_eq!(
            (ground.hypervisor.files(), ground.provisioner().observe().await),
            (vec![], Ok(Machine::Gone))
        );
    }

    // It starts, and nothing on it boots.
    ground.libvirt().image = empty;
    ground.libvirt().disk = Some(128 << 20);
    ground.vm.ssh.as_mut().unwrap().host = None;
    ground.patience = Duration::from_secs(5);
    let began = Instant::now();
    let stuck = ground.provisioner().up(&quiet).await.unwrap_err().to_string();
    assert!(began.elapsed() < Duration::from_secs(60), "{stuck}");
    for part in
        ["nothing told its address within 5s", "left of it", "pavroto@web.backstay.qcow2", "the domain web"]
    {
        assert!(stuck.contains(part), "{stuck}");
    }
    ground.provisioner().down(&quiet).await.unwrap();
    assert_eq!(
        (ground.hypervisor.files(), ground.provisioner().observe().await),
        (vec![], Ok(Machine::Gone))
    );
}
