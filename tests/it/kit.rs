//! The recovery kit in a bare environment: real `age`, `zstd`, `jq` and `ssh-keygen` restore what was stored.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};

use backstay::{
    artifact::{
        ArtifactId, Depth, Kind,
        manifest::{Edge, Moment},
    },
    committed::BackupFolder,
    keys::Keys,
    kit,
    progress::Unseen,
    stores::local::LocalStore,
};

use crate::{
    artifacts::{KeyRing, commit, full, id, incremental, look},
    capture::fixture::{Lab, Script, noise, rows},
};

const PIECES: [&[u8]; 5] = [b"one\n", b"two\n", b"three\n", b"four\n", b"five\n"];
const LATER: [&[u8]; 6] = [b"one\n", b"two\n", b"THREE\n", b"four\n", b"five\n", b"six\n"];

/// Everything that the script may find.
const PROGRAMS: [&str; 17] = [
    "age",
    "base64",
    "basename",
    "cp",
    "cut",
    "head",
    "jq",
    "mkdir",
    "mktemp",
    "mv",
    "rm",
    "sh",
    "sha256sum",
    "ssh-keygen",
    "tail",
    "wc",
    "zstd",
];

/// A machine with nothing but a store, the kit and an identity.
struct Machine {
    dir: tempfile::TempDir,
    identity_file: PathBuf,
}

struct Scene {
    machine: Machine,
    /// Holds the identity's file.
    ring: KeyRing,
    folder: BackupFolder,
}

impl Scene {
    /// A store with a full, an incremental, and a full that requires the incremental.
    async fn new() -> Self {
        let ring = KeyRing::new();
        let machine = Machine::new(&ring.keys, &ring.identity_file);
        let folder = look("vault", machine.store(), &ring).folder(&"agama".parse().unwrap());
        let first = full(&folder, &ring, id(1, 1), &PIECES).await;
        let second = incremental(&folder, &ring, id(2, 2), &first, &LATER).await;
        let mut chained = full(&folder, &ring, id(4, 4), &[b"and then\n"]).await;
        for object in [folder.manifest(id(4, 4)), folder.signature(id(4, 4))] {
            folder.store.delete(&object).await.unwrap();
        }
        chained.requires = vec![second.artifact];
        commit(&folder, &ring.keys, &chained).await;
        let page = kit::put_restore_page(folder.store.as_ref(), &folder.fleet).await;
        assert_eq!(page.unwrap(), backstay::stores::Put::Created);
        Self { machine, ring, folder }
    }

    fn object(&self, name: &backstay::artifact::layout::ObjectName) -> PathBuf {
        self.machine.path("store").join(name.as_str())
    }
}

impl Machine {
    fn new(keys: &Keys, identity_file: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for made in ["store", "bin"] {
            fs::create_dir(dir.path().join(made)).unwrap();
        }
        for program in PROGRAMS {
            let found = ["/usr/bin", "/bin"].map(|d| Path::new(d).join(program));
            let found = found.iter().find(|path| path.exists());
            let found = found.unwrap_or_else(|| panic!("{program} is not installed"));
            symlink(found, dir.path().join("bin").join(program)).unwrap();
        }
        fs::write(dir.path().join("allowed_signers"), kit::allowed_signers(&keys.trusted_keys())).unwrap();
        fs::write(dir.path().join("restore.sh"), kit::RESTORE_SCRIPT).unwrap();
        Self { dir, identity_file: identity_file.to_owned() }
    }

    fn store(&self) -> Arc<LocalStore> {
        Arc::new(LocalStore::new(self.path("store")))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new("/bin/sh")
            .arg(self.path("restore.sh"))
            .args(["-s".as_ref(), self.path("allowed_signers").as_os_str()])
            .args(["-i".as_ref(), self.identity_file.as_os_str()])
            .arg(self.path("store"))
            .args(["pavroto", "agama"])
            .args(arguments)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", self.path("bin"))
            .output()
            .unwrap()
    }

    fn restores(&self, artifact: &str, out: &str) -> Vec<Vec<u8>> {
        let output = self.run(&[artifact, out]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut files: Vec<PathBuf> =
            fs::read_dir(self.path(out)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(files.iter().all(|file| file.to_string_lossy().ends_with("-agama.sql")), "{files:?}");
        files.iter().map(|file| fs::read(file).unwrap()).collect()
    }

    /// The script must fail, and leave nothing that looks like a restore.
    fn refuses(&self, artifact: &str, out: &str, why: &str) {
        let output = self.run(&[artifact, out]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("failed to") && told.contains(why), "{told}");
        let left = fs::read_dir(self.path(out)).into_iter().flatten();
        let left: Vec<PathBuf> = left.map(|entry| entry.unwrap().path()).collect();
        assert!(left.iter().all(|file| file.extension() == Some("part".as_ref())), "{left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_restores_fulls_incrementals_and_chains_on_a_bare_machine() {
    let scene = Scene::new().await;
    assert_eq!(scene.machine.restores(&id(1, 1).to_string(), "one"), [PIECES.concat()]);
    assert_eq!(scene.machine.restores(&id(2, 2).to_string(), "two"), [LATER.concat()]);
    assert_eq!(scene.machine.restores("latest", "three"), [LATER.concat(), b"and then\n".to_vec()]);

    let listed = scene.machine.run(&[]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 3, "{listed}");
    assert_eq!(lines[1], format!("{}  incremental  2026-11-20T02:00:00Z", id(2, 2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_is_never_a_log_for_that_brings_nothing_back_by_itself() {
    let scene = Scene::new().await;
    let (folder, name) = (&scene.folder, id(5, 5));
    let mut log = full(folder, &scene.ring, name, &[b"what happened"]).await;
    for object in [folder.manifest(name), folder.signature(name)] {
        folder.store.delete(&object).await.unwrap();
    }
    let edge = |at: ArtifactId| Edge { time: at.time(), position: "bin.000001:4".to_owned() };
    (log.kind, log.moment) =
        (Kind::Log, Moment::Window { from: edge(id(4, 4)), until: edge(name), named: Vec::new() });
    commit(folder, &scene.ring.keys, &log).await;
    assert_eq!(scene.machine.restores("latest", "latest"), [LATER.concat(), b"and then\n".to_vec()]);
    assert_eq!(scene.machine.restores(&name.to_string(), "log"), [b"what happened".to_vec()]);
    // Data with what it requires, and the log behind it, into one folder.
    let output = scene.machine.run(&["latest", &name.to_string(), "both"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = |name: &str| fs::read(scene.machine.path("both").join(name)).unwrap();
    let all = ["01-agama.sql", "02-agama.sql", "03-agama.sql"].map(file);
    assert_eq!(all, [LATER.concat(), b"and then\n".to_vec(), b"what happened".to_vec()]);
    let absent = scene.machine.run(&["latest", &id(6, 6).to_string(), "more"]);
    assert_eq!(absent.status.code(), Some(1), "one that is not there is a failure");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_refuses_whatever_was_tampered_with() {
    let scene = Scene::new().await;
    let artifact = id(1, 1);
    let pack = scene.folder.pack(format!("{artifact}/1").try_into().unwrap());
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::remove_file(path).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let cases = [
        (scene.folder.manifest(artifact), "trust artifacts"),
        (scene.folder.signature(artifact), "trust artifacts"),
        (scene.folder.index(artifact), "SHA-256"),
        (pack, "SHA-256"),
    ];
    for (number, (object, why)) in cases.into_iter().enumerate() {
        let path = scene.object(&object);
        let original = fs::read(&path).unwrap();
        flip(&path);
        scene.machine.refuses(&artifact.to_string(), &format!("out-{number}"), why);
        fs::remove_file(&path).unwrap();
        scene.machine.refuses(&artifact.to_string(), &format!("gone-{number}"), "find");
        fs::write(&path, original).unwrap();
    }
    assert_eq!(scene.machine.restores(&artifact.to_string(), "whole"), [PIECES.concat()]);
    scene.machine.refuses(&artifact.to_string(), "whole/inside/nothing", "make the new folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_believes_only_the_keys_of_the_kit() {
    let scene = Scene::new().await;
    let stranger = KeyRing::new();
    fs::write(scene.machine.path("allowed_signers"), kit::allowed_signers(&stranger.keys.trusted_keys()))
        .unwrap();
    scene.machine.refuses(&id(1, 1).to_string(), "out", "no key in");
    let another = scene.object(&scene.folder.manifest(id(2, 2)));
    fs::remove_file(&another).unwrap();
    fs::copy(scene.object(&scene.folder.manifest(id(1, 1))), &another).unwrap();
    scene.machine.refuses(&id(2, 2).to_string(), "swapped", "failed to");
    scene.machine.refuses("../../x", "escaped", "not an artifact's name");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_restores_what_a_capture_shared_with_its_base_without_reading_it() {
    let lab = Lab::new();
    let machine = Machine::new(&lab.keys, &lab.identity());
    let store = machine.store();
    let (kept, old, new) = (noise(1, 3 << 20), rows(0, 100), rows(1, 20_000));
    let script = || Script::new().run(Some([1; 32]), &kept);
    let first = script().run(Some([2; 32]), &old);
    let full = lab.capture(store.as_ref(), Kind::Full, None, first).await.unwrap();
    let second = script().run(Some([3; 32]), &new).leaving_out();
    let next = lab.capture(store.as_ref(), Kind::Incremental, Some(full.artifact), second).await.unwrap();
    assert_eq!(lab.unseal(&next).sha256, None);
    for (artifact, content) in [(full.artifact, [&kept[..], &old]), (next.artifact, [&kept[..], &new])] {
        let out = artifact.to_string();
        let output = machine.run(&[&out, &out]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let file = fs::read_dir(machine.path(&out)).unwrap().next().unwrap().unwrap().path();
        assert!(fs::read(file).unwrap() == content.concat());
    }

    let keys = Keys::load_or_create(&lab.dir.path().join("keys"), &[], Some(&lab.identity())).unwrap();
    let keys = Arc::new(keys);
    let (name, fleet, backup) = ("vault".parse().unwrap(), lab.fleet.clone(), lab.backup.clone());
    let folder = BackupFolder { name, store, fleet, backup };
    let damage = backstay::apply::verify::verify(&folder, next.artifact, Depth::Plaintext, &keys, &Unseen);
    assert_eq!(damage.await.unwrap(), []);
}
