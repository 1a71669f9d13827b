//! What stores hold of a backup that nothing declares any more can still be brought back.

use std::{fs, os::unix::fs::OpenOptionsExt as _, path::PathBuf};

use backstay::{
    apply::executor::Outcome,
    config::Config,
    keys::identity,
    plan::{
        action::Destination,
        restore::{Point, Request},
    },
    reconcile::{Ask, Controller},
};

use super::{Fleet, RECIPIENT, all_done, apply};

/// A fleet of a database and a folder, both captured and then no longer declared, and a controller with an identity.
pub(super) async fn forgotten() -> (Fleet, Controller) {
    let fleet = Fleet::new();
    fs::create_dir_all(fleet.path("data/wiki")).unwrap();
    fs::write(fleet.path("data/wiki/home"), "welcome").unwrap();
    let (config, recipient) = with_identity(&fleet);
    let both = format!("{RECIPIENT}\", \"{recipient}");
    let wiki = format!(
        "[backup.wiki]\npolicy = \"often\"\nstores = [\"vault\"]\nfiles = {{ paths = [\"{}\"] }}\n",
        fleet.path("data/wiki").display()
    );
    let declared = format!("{}\n{wiki}", fleet.declaration().replace(RECIPIENT, &both));
    fleet.declare(&declared);
    all_done(&fleet.pass().await);
    let other =
        declared.replace("[backup.shop]", "[backup.kiosk]").replace("[backup.wiki]", "[backup.notes]");
    fleet.declare(&other);
    all_done(&fleet.pass().await);

    let controller = Controller::open(config, fleet.clock.clone()).unwrap();
    (fleet, controller)
}

/// The fleet's configuration with an identity, and that one's recipient.
pub(super) fn with_identity(fleet: &Fleet) -> (Config, String) {
    let made = identity::generate(jiff::Timestamp::now());
    let file = fleet.path("identity.txt");
    let mut options = fs::OpenOptions::new();
    let mut opened = options.write(true).create_new(true).mode(0o600).open(&file).unwrap();
    std::io::Write::write_all(&mut opened, made.file.as_bytes()).unwrap();
    let mut config = fleet.config();
    config.keys.identity = Some(file);
    (config, made.recipient.to_string())
}

pub(super) async fn restore(controller: &Controller, backup: &str, to: Destination) -> Outcome {
    let backup = backup.parse().unwrap();
    let ask = Ask::Restore(Request { backup, point: Point::Latest, from: None, paths: Vec::new(), to });
    let pass = apply(controller, &ask).await.unwrap();
    pass.outcomes.into_values().next().unwrap()
}

fn why(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed(failure) => failure.message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_backup_that_is_declared_no_more_is_restored_into_a_file_or_its_archive_into_a_folder() {
    let (fleet, controller) = forgotten().await;
    let (shop, wiki): (PathBuf, PathBuf) = (fleet.path("shop.db"), fleet.path("wiki"));
    let done = restore(&controller, "shop", Destination::File(shop.clone())).await;
    assert!(matches!(done, Outcome::Done(_)), "{done:?}");
    let restored = rusqlite::Connection::open(&shop).unwrap();
    let sold: u32 = restored.query_row("select count(*) from sold", (), |row| row.get(0)).unwrap();
    assert_eq!(sold, 10);

    let done = restore(&controller, "wiki", Destination::Folder(wiki.clone())).await;
    assert!(matches!(done, Outcome::Done(_)), "{done:?}");
    let home = wiki.join(fleet.path("data/wiki/home").strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(home).unwrap(), "welcome");
    let done = restore(&controller, "wiki", Destination::File(fleet.path("wiki.tar"))).await;
    assert!(matches!(done, Outcome::Done(_)), "{done:?}");
}

#[tokio::test]
async fn where_only_a_declaration_would_tell_the_place_a_restore_is_refused_and_says_why() {
    let (fleet, controller) = forgotten().await;
    let original = fs::read(fleet.path("data/shop.db")).unwrap();
    let refused = why(restore(&controller, "shop", Destination::InPlace).await);
    assert!(refused.contains("no revision in force declares it"), "{refused}");
    why(restore(&controller, "shop", Destination::Database("copy".to_owned())).await);
    why(restore(&controller, "wiki", Destination::InPlace).await);
    let folder = why(restore(&controller, "shop", Destination::Folder(fleet.path("shop"))).await);
    assert!(folder.contains("is one file"), "{folder}");
    assert_eq!(fs::read(fleet.path("data/shop.db")).unwrap(), original);
    assert!(!fleet.path("shop").exists());
}
