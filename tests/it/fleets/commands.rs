//! Commands on a folder of several fleets.

use std::process::Output;

use serde_json::Value;

use super::Host;
use crate::{cli::backstay, passes::Fleet};

fn stderr(run: &Output) -> String {
    String::from_utf8(run.stderr.clone()).unwrap()
}

fn on(host: &Host, arguments: &[&str]) -> Output {
    let folder = host.folder();
    backstay(&[&["--config", folder.to_str().unwrap()], arguments].concat())
}

/// Two fleets that declare the same, each with a repo, data and stores of its own.
fn two() -> (Host, Fleet, Fleet) {
    let (host, shop, site) = (Host::new(), Fleet::declared(), Fleet::declared());
    host.add("shop", &shop, "");
    host.add("site", &site, "");
    (host, shop, site)
}

#[test]
fn a_command_that_changes_something_asks_which_fleet_is_meant_and_then_does_it_for_that_one() {
    let (host, shop, site) = two();
    for arguments in
        [&["apply", "--yes"][..], &["backup", "shop"], &["status", "shop"], &["plan", "--out", "p"]]
    {
        let run = on(&host, arguments);
        assert_eq!(run.status.code(), Some(2), "{arguments:?}: {}", stderr(&run));
        assert!(
            stderr(&run).contains("of shop, site; name one with --fleet or $BACKSTAY_FLEET"),
            "{}",
            stderr(&run)
        );
    }
    let run = on(&host, &["--fleet", "site", "apply", "--yes"]);
    assert!(run.status.success(), "{}", stderr(&run));
    assert_eq!(site.manifests("vault", "shop").len(), 1);
    assert_eq!(shop.manifests("vault", "shop").len(), 0);
    assert!(!shop.path("state").exists(), "nobody asked for that fleet");
}

#[test]
fn a_fleet_that_is_not_there_is_a_usage_error_that_names_what_was_meant() {
    let (host, ..) = two();
    let run = on(&host, &["--fleet", "shpo", "status"]);
    assert_eq!(run.status.code(), Some(2));
    assert!(stderr(&run).contains("did you mean `shop`?"), "{}", stderr(&run));
    let file = host.file("shop");
    let run = backstay(&["--config", file.to_str().unwrap(), "--fleet", "site", "status"]);
    assert_eq!(run.status.code(), Some(2));
    assert!(stderr(&run).contains("is one configuration and not a folder"), "{}", stderr(&run));
}

#[test]
fn a_folder_of_one_fleet_needs_no_choice() {
    let (host, fleet) = (Host::new(), Fleet::declared());
    host.add("shop", &fleet, "");
    let run = on(&host, &["apply", "--yes"]);
    assert!(run.status.success(), "{}", stderr(&run));
    assert_eq!(fleet.manifests("vault", "shop").len(), 1);
}

#[test]
fn what_only_looks_goes_over_all_fleets_and_ends_as_the_worst_of_them() {
    let (host, _shop, _site) = two();
    let site = on(&host, &["--fleet", "site", "apply", "--yes"]);
    assert!(site.status.success(), "{}", stderr(&site));

    let run = on(&host, &["plan"]);
    assert_eq!(run.status.code(), Some(10), "{}", stderr(&run));
    let text = String::from_utf8(run.stdout).unwrap();
    let (shop, site) = (text.find("── shop ──").unwrap(), text.find("── site ──").unwrap());
    assert!(text[shop..site].contains("capture") && !text[site..].contains("capture"), "{text}");

    let run = on(&host, &["status", "-o", "json"]);
    let told: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(told["format"], "backstay.fleets/1");
    let of = |at: usize, key: &str| told["fleets"][at][key].clone();
    assert_eq!((of(0, "fleet"), of(1, "fleet")), ("shop".into(), "site".into()));
    assert_eq!((of(1, "exit"), of(1, "told")["format"].clone()), (0.into(), "backstay.status/1".into()));
    let exits = [&of(0, "exit"), &of(1, "exit")].map(|exit| exit.as_i64().unwrap() as i32);
    assert_eq!(run.status.code(), Some(exits[0]), "{told:#}");
    assert_ne!(exits[0], 0);
}

#[test]
fn a_faulty_configuration_is_told_and_holds_back_no_other_fleet() {
    let (host, shop, _) = two();
    host.write("site", "state_dir = 1");
    let run = on(&host, &["list", "-o", "json"]);
    assert_eq!(run.status.code(), Some(1), "{}", stderr(&run));
    let told: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(told["fleets"][0]["told"]["format"], "backstay.list/1");
    assert!(told["fleets"][1]["error"].as_str().unwrap().contains("state_dir"), "{told:#}");
    let run = on(&host, &["--fleet", "shop", "apply", "--yes"]);
    assert!(run.status.success(), "{}", stderr(&run));
    assert_eq!(shop.manifests("vault", "shop").len(), 1);
}

#[test]
fn a_hook_wakes_the_fleet_that_is_named_or_all_that_the_folder_will_hold() {
    let (host, _shop, _site) = two();
    let printed = |arguments: &[&str]| {
        let run = on(&host, arguments);
        assert!(run.status.success(), "{}", stderr(&run));
        String::from_utf8(run.stdout).unwrap()
    };
    let all = format!("wake --quiet --config '{}'\n", host.folder().display());
    assert!(printed(&["hook", "print"]).contains(&all));
    let one = format!("wake --quiet --config '{}'\n", host.file("site").display());
    assert!(printed(&["--fleet", "site", "hook", "print"]).contains(&one));
    let run = on(&host, &["wake"]);
    assert_eq!(run.status.code(), Some(1));
    for fleet in ["fleet shop: failed to wake", "fleet site: failed to wake"] {
        assert!(stderr(&run).contains(fleet), "{}", stderr(&run));
    }
}

#[test]
fn fleets_that_share_their_state_are_refused_by_every_command() {
    let (host, shop, _) = two();
    host.add("site", &shop, "");
    for arguments in [&["--fleet", "shop", "apply", "--yes"][..], &["--fleet", "site", "plan"], &["status"]] {
        let run = on(&host, arguments);
        assert_eq!(run.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&run).contains("overlaps state_dir of"), "{}", stderr(&run));
    }
    assert!(!shop.path("state").exists());
}
