//! Users, roles and grants, which not each capture holds.

use super::*;

const CODE: &str = "accounts-left-out";

/// Backups of one server, each by its source's kind and the lines of its table.
fn left_out(backups: &[(&str, &str)]) -> Vec<String> {
    let declared = backups.iter().enumerate().map(|(number, (kind, lines))| {
        format!(
            "[backup.b{number}]\npolicy = \"nightly\"\nstores = [\"here\", \"there\"]\n\
             [backup.b{number}.{kind}]\n{lines}\n"
        )
    });
    let parsed = with(&format!("{NIGHTLY}{}", declared.collect::<String>()));
    assert!(parsed.spec.is_some(), "{:?}", parsed.diagnostics);
    let found = parsed.diagnostics.into_iter().filter(|diagnostic| diagnostic.code == CODE);
    found.map(|diagnostic| diagnostic.message).collect()
}

const SERVER: &str = "host = \"db\"\nuser = \"backup\"\n";

#[test]
fn accounts_that_do_not_come_along_are_told() {
    let one = format!("{SERVER}databases = [\"shop\"]\n");
    let two = format!("{SERVER}databases = [\"shop\", \"crm\"]\n");
    let physical = format!("{SERVER}method = \"physical\"\n");
    let influxdb2 = "url = \"http://db:8086\"\norg = \"o\"\ntoken = { file = \"/token\" }\n";
    let buckets = format!("{influxdb2}buckets = [\"tele\"]\n");
    let redis = "host = \"db\"\n";
    let named = format!("{redis}user = \"backup\"\npassword = {{ file = \"/password\" }}\n");
    for (kind, lines, told) in [
        ("mysql", SERVER, true),
        ("mysql", &one, true),
        ("mysql", &physical, false),
        ("postgres", &one, true),
        ("postgres", &two, false),
        ("postgres", SERVER, false),
        ("postgres", &physical, false),
        ("mongodb", SERVER, true),
        ("influxdb", SERVER, true),
        ("influxdb2", influxdb2, false),
        ("influxdb2", &buckets, true),
        ("redis", redis, false),
        ("redis", &named, true),
    ] {
        assert_eq!(left_out(&[(kind, lines)]).len(), usize::from(told), "{kind} {lines}");
    }
}

#[test]
fn they_are_not_told_where_another_backup_of_that_server_holds_them() {
    let elsewhere = SERVER.replace("db", "other");
    let physical = |server: &str| format!("{server}method = \"physical\"\n");
    assert_eq!(left_out(&[("mysql", SERVER), ("mysql", &physical(SERVER))]), [""; 0]);
    assert_eq!(left_out(&[("mysql", SERVER), ("mysql", &physical(&elsewhere))]).len(), 1);
    assert_eq!(left_out(&[("mysql", SERVER), ("postgres", &physical(SERVER))]).len(), 1);
    let one = format!("{SERVER}databases = [\"shop\"]\n");
    assert_eq!(left_out(&[("postgres", &one), ("postgres", SERVER)]), [""; 0]);
    let instance = "region = \"eu-north-1\"\ninstance = \"customers\"\n";
    let at = SERVER.replace("db", "customers.c9akciq32.eu-north-1.rds.amazonaws.com");
    assert_eq!(
        left_out(&[("mysql", &at), ("rds", instance)]),
        [""; 0],
        "a snapshot of the instance holds them"
    );
    assert_eq!(left_out(&[("mysql", SERVER), ("rds", instance)]).len(), 1);
}

#[test]
fn they_are_not_told_where_something_else_makes_them() {
    let backup = "[backup.shop]\npolicy = \"nightly\"\nstores = [\"here\", \"there\"]\n";
    let source = format!("[backup.shop.mysql]\n{SERVER}");
    assert!(found_codes(&format!("{NIGHTLY}{backup}{source}")).contains(&CODE));
    assert_eq!(found_codes(&format!("{NIGHTLY}{backup}accounts = \"elsewhere\"\n{source}")), [""; 0]);
    let unknown = found_codes(&format!("{NIGHTLY}{backup}accounts = \"nowhere\"\n{source}"));
    assert!(unknown.contains(&"invalid-value"), "{unknown:?}");
}
