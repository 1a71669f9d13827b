//! The rules of dependency between the modules, read off their source.

use std::{fs, path::Path};

/// Modules that are pure and synchronous.
const CORE: &[&str] = &["adopt", "artifact", "diagnostic", "drift", "inventory", "plan", "spec", "status"];

/// External crates that the core may name: none of them touches the world.
const PURE_CRATES: &[&str] = &[
    "age",
    "base64",
    "blake3",
    "bytesize",
    "cronexpr",
    "globset",
    "hex",
    "humantime",
    "jiff",
    "schemars",
    "serde",
    "serde_json",
    "sha2",
    "strsim",
    "thiserror",
    "toml",
];

/// Parts of std and jiff that touch the world.
const IMPURE: &[&str] = &[
    "std::fs",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "std::process",
    "std::thread",
    "std::env",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "rand::",
    "tokio::",
    "tracing::",
    "git2::",
];

/// Modules of single drivers, which only `drivers` may name.
const DRIVERS: &[&str] = &[
    "stores::local",
    "stores::sftp",
    "stores::s3",
    "sources::files",
    "sources::sqlite",
    "sources::mysql",
    "sources::postgres",
    "sources::mongodb",
    "sources::influxdb",
    "sources::influxdb2",
    "sources::redis",
    "sources::etcd",
    "sources::dynamodb",
    "sources::rds",
    "sources::atlas",
    "sources::git",
    "sources::s3",
    "provisioners::cloudformation",
    "provisioners::terraform",
    "schedulers::controller",
    "schedulers::cron",
    "schedulers::systemd",
    "provisioners::libvirt",
    "provisioners::ansible",
    "provisioners::ssh",
    "traffic::dns",
    "traffic::load_balancer",
    "traffic::route53",
];

/// One file of the crate: its module path (`plan::check`) and its code without comments and unit tests.
struct Module {
    path: String,
    code: String,
}

impl Module {
    fn new(file: &str, text: &str) -> Self {
        let path = file.trim_end_matches(".rs").replace('/', "::");
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let code =
            code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        Self { path, code }
    }

    fn top(&self) -> &str {
        self.path.split("::").next().unwrap_or_default()
    }

    /// Modules of this crate that the code names, as far as the paths are spelt out: `plan::action`, `spec`.
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for after in self.code.split("crate::").skip(1) {
            collect(after, "", &mut names);
        }
        names
    }
}

/// Reads `a::b`, or `{a::b, c::{d, e}}`, at the start of `text`.
fn collect(text: &str, prefix: &str, names: &mut Vec<String>) {
    if let Some(list) = text.strip_prefix('{') {
        for item in items(list) {
            collect(item.trim_start(), prefix, names);
        }
        return;
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    if word.is_empty() {
        return;
    }
    let path = if prefix.is_empty() { word.to_owned() } else { format!("{prefix}::{word}") };
    if let Some(rest) = rest.strip_prefix("::") {
        collect(rest, &path, names);
    }
    names.push(path);
}

/// The items of a list, up to the brace that closes it.
fn items(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (i, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.push(&list[start..i]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&list[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    found
}

fn faults(module: &Module) -> Vec<String> {
    let top = module.top();
    let names = module.names();
    let mut faults = Vec::new();
    let mut forbid = |what: &str, rule: &str| faults.push(format!("{} names {what}: {rule}", module.path));

    if CORE.contains(&top) {
        for name in names.iter().filter(|name| !name.contains("::") && !CORE.contains(&name.as_str())) {
            if name.chars().all(|c| c.is_lowercase() || c == '_') {
                forbid(name, "the core names only the core");
            }
        }
        for word in IMPURE.iter().filter(|word| module.code.contains(**word)) {
            forbid(word, "the core is pure");
        }
        for line in module.code.lines().filter_map(|line| line.strip_prefix("use ")) {
            let krate = line.split([':', ';', ' ', '{']).next().unwrap_or_default();
            let own = ["crate", "super", "self", "std"].contains(&krate)
                || module.code.contains(&format!("mod {krate};"));
            if !own && !PURE_CRATES.contains(&krate) && krate.chars().all(|c| c.is_lowercase() || c == '_') {
                forbid(krate, "the core names only pure crates");
            }
        }
    }
    for driver in DRIVERS.iter().filter(|driver| names.iter().any(|name| name == *driver)) {
        let within = module.path == *driver || module.path.starts_with(&format!("{driver}::"));
        if !within && top != "drivers" {
            forbid(driver, "only `drivers` names single drivers");
        }
    }
    if ["aws", "stores", "sources", "schedulers"].contains(&top) {
        for shell in
            ["apply", "observe", "reconcile", "daemon", "web", "cli", "drivers", "config", "git", "render"]
        {
            let bundles = module.path.starts_with("sources::git") && shell == "git";
            if !bundles && names.iter().any(|name| name == shell) {
                forbid(shell, "a driver names the core, its trait, `process` and `secrets`");
            }
        }
    }
    if ["web", "render"].contains(&top) {
        for family in ["stores", "sources", "schedulers", "drivers", "observe"] {
            if names.iter().any(|name| name == family) {
                forbid(family, "what shows a state reads Status and Plan, never a driver");
            }
        }
    }
    if top != "cli" && names.iter().any(|name| name == "cli") && top != "main" {
        forbid("cli", "nothing but main names the command line");
    }
    if top != "cli" && top != "main" {
        for printing in ["println!", "eprintln!", "print!(", "process::exit"] {
            if module.code.contains(printing) {
                forbid(printing, "only the command line prints and exits");
            }
        }
        if names.iter().any(|name| name == "anyhow") || module.code.contains("anyhow::") {
            forbid("anyhow", "only the command line has untyped errors");
        }
    }
    faults
}

fn modules(folder: &Path, prefix: &str, found: &mut Vec<Module>) {
    for entry in fs::read_dir(folder).expect("the source folder is readable") {
        let path = entry.expect("the source folder is readable").path();
        let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        if path.is_dir() {
            modules(&path, &format!("{prefix}{name}/"), found);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).expect("a source file is text");
            found.push(Module::new(&format!("{prefix}{name}"), &text));
        }
    }
}

#[test]
fn every_module_keeps_the_rules_of_dependency() {
    let mut found = Vec::new();
    modules(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut found);
    assert!(found.len() > 20, "the source folder was not read");
    let faults: Vec<String> = found.iter().flat_map(faults).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_rule_catches_a_planted_fault() {
    let planted = [
        ("plan/backups.rs", "use crate::{artifact::Kind, stores::Store};"),
        ("plan/backups.rs", "let now = Timestamp::now();"),
        ("spec/parse.rs", "use crate::secrets;"),
        ("spec/parse.rs", "use git2::Repository;"),
        ("observe.rs", "use crate::stores::{Store, local};"),
        ("apply/copy.rs", "fn f() { crate::stores::s3::connect() }"),
        ("sources/mysql.rs", "use crate::sources::{files, Source};"),
        ("stores/local.rs", "use crate::apply::journal;"),
        ("web/metrics.rs", "use crate::{status::Status, stores};"),
        ("reconcile.rs", "use crate::cli::exit::Exit;"),
        ("git/mirror.rs", "println!(\"fetched\");"),
        ("observe.rs", "fn f() -> anyhow::Result<()> {}"),
    ];
    for (file, text) in planted {
        assert_ne!(faults(&Module::new(file, text)), Vec::<String>::new(), "{file}: {text}");
    }
    let allowed = [
        (
            "plan/backups.rs",
            "use crate::{artifact::{Kind, layout}, spec::names::BackupName};\nuse jiff::Timestamp;",
        ),
        ("drivers.rs", "use crate::stores::{local, s3::S3Store};"),
        ("stores/local.rs", "use crate::{artifact::layout::ObjectName, stores::{Store, StoreError}};"),
        ("cli/plan.rs", "println!(\"{}\", crate::render::plan::text());"),
    ];
    for (file, text) in allowed {
        assert_eq!(faults(&Module::new(file, text)), Vec::<String>::new(), "{file}: {text}");
    }
}
