use std::{fs, os::unix::fs::PermissionsExt};

use super::*;

fn file(folder: &Path, name: &str, content: &[u8], mode: u32) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn allowing(path: &Path) -> Resolver {
    let allowance = Allowance { secret: Allowed::Path(path.to_owned()), hosts: vec!["pavroto-2".to_owned()] };
    Resolver::new(vec![allowance], vec![], vec![])
}

#[tokio::test]
async fn a_private_file_gives_its_secret_to_the_host_that_it_is_bound_to_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "agama", b"hunter2\n", 0o600);
    let reference = SecretRef::File(path.clone());
    assert_eq!(allowing(&path).resolve(&reference, "PAVROTO-2").await.unwrap().expose(), "hunter2");
    assert_eq!(allowing(folder.path()).resolve(&reference, "pavroto-2").await.unwrap().expose(), "hunter2");
    let refused = allowing(&path).resolve(&reference, "evil.example").await.unwrap_err().to_string();
    assert!(refused.contains("hosts = [\"evil.example\"]") && refused.contains("allow.secrets"), "{refused}");
    let climbing = SecretRef::File(folder.path().join("sub/../agama"));
    assert!(matches!(
        allowing(&folder.path().join("sub")).resolve(&climbing, "pavroto-2").await,
        Err(SecretError::NotAllowed { .. })
    ));
}

#[test]
fn files_that_others_can_read_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for mode in [0o640, 0o604, 0o660] {
        let path = file(folder.path(), &format!("{mode}"), b"x", mode);
        let refused = from_file(&path).unwrap_err();
        assert!(refused.to_string().contains("chmod 600"), "{refused}");
    }
}

#[test]
fn what_is_no_secret_is_refused_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("large", vec![b'x'; LARGEST + 1], "larger than"),
        ("empty", b"\n".to_vec(), "is empty"),
        ("binary", vec![0xff, 0xfe], "not UTF-8"),
    ];
    for (name, content, why) in cases {
        let error = from_file(&file(folder.path(), name, &content, 0o600)).unwrap_err().to_string();
        assert!(error.contains(why) && error.len() < 400, "{error}");
    }
    assert!(from_file(folder.path()).is_err() && from_file(&folder.path().join("absent")).is_err());
}

#[test]
fn one_line_end_is_trimmed_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    for (content, secret) in [("a b \n", "a b "), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a")] {
        let path = file(folder.path(), "secret", content.as_bytes(), 0o600);
        assert_eq!(from_file(&path).unwrap().expose(), secret);
    }
}

#[tokio::test]
async fn variables_need_an_allowance_of_their_own() {
    let reference = SecretRef::Env("PATH".to_owned());
    assert!(matches!(
        Resolver::default().resolve(&reference, "pavroto-2").await,
        Err(SecretError::NotAllowed { .. })
    ));
    let allowance =
        Allowance { secret: Allowed::Variable("PATH".to_owned()), hosts: vec!["pavroto-2".to_owned()] };
    let resolver = Resolver::new(vec![allowance], vec![], vec![]);
    assert_eq!(
        resolver.resolve(&reference, "pavroto-2").await.unwrap().expose(),
        std::env::var("PATH").unwrap()
    );
}

#[tokio::test]
async fn programs_run_only_where_they_are_allowed() {
    let reference = SecretRef::Command(vec!["echo".to_owned(), "hunter2".to_owned()]);
    let refused = Resolver::default().resolve(&reference, "h").await.unwrap_err();
    assert!(matches!(refused, SecretError::ProgramNotAllowed { program } if program == "echo"));
    let resolver = Resolver::new(vec![], vec!["echo".to_owned()], vec![]);
    assert_eq!(resolver.resolve(&reference, "h").await.unwrap().expose(), "hunter2");
}

#[tokio::test]
async fn age_opens_with_the_controllers_identity_only() {
    let (ours, other) = (age::x25519::Identity::generate(), age::x25519::Identity::generate());
    let armored = age::encrypt_and_armor(&ours.to_public(), b"hunter2\n").unwrap();
    let reference = SecretRef::Age(armored);
    let resolver = Resolver::new(vec![], vec![], vec![other.clone(), ours]);
    assert_eq!(resolver.resolve(&reference, "h").await.unwrap().expose(), "hunter2");
    let without = Resolver::new(vec![], vec![], vec![other]);
    assert!(matches!(without.resolve(&reference, "h").await, Err(SecretError::Decrypt { .. })));
}

#[test]
fn a_network_covers_its_addresses_and_no_name() {
    let hosts = ["192.168.150.0/24", "2001:db8::/64", "pavroto-2"].map(str::to_owned).to_vec();
    let allowance = Allowance { secret: Allowed::Variable("A".to_owned()), hosts };
    let resolver = Resolver::new(vec![allowance], vec![], vec![]);
    let permits = |host: &str| resolver.permit(&SecretRef::Env("A".to_owned()), host).is_ok();
    for host in ["192.168.150.7", "2001:db8::7", "PAVROTO-2"] {
        assert!(permits(host), "{host}");
    }
    for host in ["192.168.151.7", "192.168.150.7.example.org", "localhost", "", "192.168.150.0/24x"] {
        assert!(!permits(host), "{host}");
    }
}

#[test]
fn secrets_print_as_stars() {
    let secret = Secret::new("hunter2".to_owned());
    assert_eq!(format!("{secret} {secret:?} {:#?}", Some(&secret)), "*** *** Some(\n    ***,\n)");
}
