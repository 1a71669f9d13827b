//! Two fleets of one host arm their schedules in one folder of the host's scheduler, and are called the same by their commits.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::Host;
use crate::{cli::backstay, passes::Fleet};

/// Two fleets in which a commit declares `shop` and `till`.
struct Two {
    host: Host,
    shop: Fleet,
    till: Fleet,
    folder: PathBuf,
}

impl Two {
    fn new() -> Self {
        let (host, shop, till) = (Host::new(), Fleet::declared(), Fleet::new());
        till.declare(&till.declaration().replace("[backup.shop]", "[backup.till]"));
        let folder = host.folder().join("units");
        fs::create_dir(&folder).unwrap();
        let two = Self { host, shop, till, folder };
        two.host.add("shop", &two.shop, &two.schedules());
        two.host.add("till", &two.till, &two.schedules());
        two
    }

    fn schedules(&self) -> String {
        format!("[schedules]\nscheduler = \"systemd\"\nfolder = \"{}\"", self.folder.display())
    }

    fn apply(&self, fleet: &str) -> (Option<i32>, String) {
        let folder = self.host.folder();
        let run = backstay(&["--config", folder.to_str().unwrap(), "--fleet", fleet, "apply", "--yes"]);
        (run.status.code(), String::from_utf8([run.stdout, run.stderr].concat()).unwrap())
    }

    fn timer(&self, backup: &str) -> PathBuf {
        self.folder.join(format!("backstay-pavroto-{backup}-full.timer"))
    }
}

fn config_of(timer: &Path) -> String {
    let text = fs::read_to_string(timer).unwrap();
    let marker = text.lines().next().unwrap().strip_prefix("# backstay-schedule ").unwrap().to_owned();
    let marker: serde_json::Value = serde_json::from_str(&marker).unwrap();
    marker["config"].as_str().unwrap().to_owned()
}

#[test]
fn neither_disarms_what_the_other_armed_nor_takes_its_files() {
    let two = Two::new();
    assert_eq!(two.apply("shop").0, Some(0));
    let before = fs::read(two.timer("shop")).unwrap();
    assert_eq!(two.apply("till").0, Some(0));
    assert!(two.timer("till").exists());
    assert_eq!(fs::read(two.timer("shop")).unwrap(), before);

    two.till.declare(&two.till.declaration());
    let (code, told) = two.apply("till");
    assert_eq!(code, Some(4), "{told}");
    assert!(told.contains("is in the way: belongs to another fleet of this host"), "{told}");
    assert!(!two.timer("till").exists(), "what it no longer declares is its own to remove");
    assert_eq!(fs::read(two.timer("shop")).unwrap(), before);
}

#[test]
fn a_configuration_that_was_moved_keeps_its_schedules() {
    let two = Two::new();
    assert_eq!(two.apply("shop").0, Some(0));
    fs::rename(two.host.file("shop"), two.host.file("store")).unwrap();
    let (code, told) = two.apply("store");
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(config_of(&two.timer("shop")), two.host.file("store").to_str().unwrap());
}
