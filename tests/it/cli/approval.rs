//! Approvals as a user types them, and plans that hold no secrets.

use std::time::{Duration, Instant};

use super::*;

impl Fleet {
    /// With four backups on demand more than a retention keeps that was shortened since, so that too many would go at once.
    fn crowded() -> Self {
        let fleet = Self::new();
        fleet.run(&["apply", "--yes"], 0);
        for reason in ["one", "two", "three", "four"] {
            fleet.run(&["backup", "data", "--reason", reason], 0);
        }
        fleet.commit(|text| text.replace(r#"manual = "90d""#, r#"manual = "1s""#));
        fleet
    }

    /// What is withheld in the first store, once all that may go is old enough.
    fn withheld(&self) -> serde_json::Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let config = self.path("fleet/backstay.toml");
            let run = backstay(&["plan", "--config", &config, "-o", "json"]);
            let plan: serde_json::Value = serde_json::from_str(&stdout(&run)).unwrap();
            let mut withheld = plan["withheld"].as_array().unwrap().iter();
            let first = withheld.find(|withheld| withheld["store"] == "primary");
            if let Some(first) = first.filter(|first| first["artifacts"].as_array().unwrap().len() == 3) {
                return first.clone();
            }
            assert!(Instant::now() < deadline, "nothing is withheld: {plan:#}");
        }
    }
}

#[test]
fn deletions_that_are_withheld_are_approved_by_name_and_who_approved_them_is_told_afterwards() {
    let fleet = Fleet::crowded();
    let withheld = fleet.withheld();
    let plan = withheld["plan"].as_str().unwrap();
    let (short, gone) = (&plan[..15], withheld["artifacts"][0].as_str().unwrap());
    let told = fleet.run(&["plan"], 5);
    assert!(
        told.contains(&format!("backstay approve {short} --reason WHY")) && told.contains(gone),
        "{told}"
    );
    assert!(fleet.run(&["status"], 5).contains(&format!("backstay approve {short}")));

    let approve = |plan: &str, further: &[&str], code| {
        fleet.run(&[&["approve", plan, "--reason", "shortened on purpose"], further].concat(), code)
    };
    let told = approve("plan:0000000000", &[], 1);
    assert!(told.contains("nothing of this name is withheld now") && told.contains(short), "{told}");
    assert!(approve(short, &["--expires", "31d"], 1).contains("30 days"));
    fleet.run(&["approve", short, "--reason", " "], 2);
    approve(&plan[..14], &[], 2);

    // What a commit would say is sound, and approves nothing on a host that names no approvers.
    let infra = fleet.path("fleet/infra");
    let config = fleet.path("fleet/backstay.toml");
    let arguments = ["approve", short, "--reason", "by \"us\"", "--toml", "--config", &config];
    fs::write(format!("{infra}/backup/approve.toml"), stdout(&backstay(&arguments))).unwrap();
    fleet.run(&["validate", &format!("{infra}/backup"), "--fail-on", "warning"], 0);
    git(&infra, &["add", "--all"]);
    fleet.commit(|text| text);
    let told = fleet.run(&["plan"], 5);
    assert!(told.contains("this host's configuration names nobody in `repo.approvers`"), "{told}");

    assert!(approve(short, &[], 0).contains("the deletion of 3 artifacts of data in primary"));
    assert!(fleet.run(&["status"], 5).contains("deletions of data in primary are approved until"));
    assert!(approve(plan, &[], 1).contains("it is approved until"));
    fleet.run(&["apply", "--yes"], 5);
    let left = fleet.json(&["list", "data"], 0);
    let holders = left["artifacts"].as_array().unwrap().iter().find(|it| it["artifact"] == gone).unwrap();
    assert!(!holders.to_string().contains("primary"), "{holders}");
    let second = fleet.withheld_in("second");
    fleet.run(&["approve", &second, "--reason", "there, too"], 0);
    fleet.run(&["apply", "--yes"], 0);
    for command in ["explain", "trace"] {
        let told = fleet.run(&[command, gone], 0);
        assert!(told.contains("is gone") && told.contains("deleted in primary at"), "{told}");
        assert!(told.contains("shortened on purpose") && told.contains("there, too"), "{told}");
    }
    let told = fleet.json(&["explain", gone], 0);
    assert_eq!(
        (&told["format"], &told["departures"][0]["warrant"]["plan"]),
        (&"backstay.departure/1".into(), &withheld["plan"])
    );
}

impl Fleet {
    fn withheld_in(&self, store: &str) -> String {
        let plan = self.json(&["plan"], 5);
        let withheld = plan["withheld"].as_array().unwrap().iter().find(|it| it["store"] == store);
        withheld.unwrap()["plan"].as_str().unwrap().to_owned()
    }
}

#[test]
fn what_a_commit_approves_is_checked_and_has_a_schema() {
    let fleet = Fleet::new();
    let folder = fleet.path("fleet/infra/backup");
    let expired = format!(
        "[[approve]]\nplan = \"plan:{}\"\nbase = \"{}\"\nreason = \"done\"\nexpires = \"2020-01-01\"\n",
        "a".repeat(64),
        "b".repeat(40)
    );
    fs::write(format!("{folder}/approve.toml"), &expired).unwrap();
    assert!(fleet.run(&["validate", &folder, "--fail-on", "warning"], 11).contains("approval-expired"));
    fs::write(format!("{folder}/approve.toml"), expired.replace("expires", "expire")).unwrap();
    assert!(fleet.run(&["validate", &folder], 12).contains("did you mean `expires`?"));
    let schema: serde_json::Value = serde_json::from_str(&stdout(&backstay(&["schema", "approve"]))).unwrap();
    assert_eq!(schema["title"], "Backstay approvals");
    assert_eq!(schema["properties"]["approve"]["items"]["required"].as_array().unwrap().len(), 4);
}

#[test]
fn no_plan_and_no_status_holds_a_secret() {
    let fleet = Fleet::new();
    let secrets = ["by-file-7a1c", "by-variable-7a1c", "by-program-7a1c", "by-age-7a1c"];
    fs::write(fleet.path("fleet/secret"), secrets[0]).unwrap();
    let recipient =
        stdout(&Command::new("age-keygen").args(["-y", &fleet.path("fleet/identity.txt")]).output().unwrap());
    fs::write(fleet.path("plain"), secrets[3]).unwrap();
    let armored =
        Command::new("age").args(["-a", "-r", recipient.trim(), &fleet.path("plain")]).output().unwrap();
    assert!(armored.status.success(), "{}", stderr(&armored));
    let references = [
        format!("{{ file = \"{}\" }}", fleet.path("fleet/secret")),
        "{ env = \"BY_VARIABLE\" }".to_owned(),
        format!("{{ command = [\"printf\", \"{}\"] }}", secrets[2]),
        format!("{{ age = \"\"\"{}\"\"\" }}", stdout(&armored)),
    ];
    // Of databases, whose plans are never asked of them; and of a store, which is asked and does not answer.
    let mut declared = String::new();
    for (number, reference) in references.iter().enumerate() {
        declared += &format!(
            "[backup.db{number}]\npolicy = \"nightly\"\nstores = [\"primary\"]\n[backup.db{number}.mysql]\n\
             host = \"127.0.0.1\"\nuser = \"backup\"\ndatabases = [\"shop\"]\npassword = {reference}\n"
        );
    }
    let config = fleet.path("fleet/backstay.toml");
    let allow = format!(
        "run = [\"printf\"]\nsecrets = [{{ path = \"{}\", hosts = [\"127.0.0.1\"] }}, \
         {{ env = \"BY_VARIABLE\", hosts = [\"127.0.0.1\"] }}]\n",
        fleet.path("fleet/secret")
    );
    let text = fs::read_to_string(&config).unwrap() + &allow;
    fs::write(&config, text).unwrap();
    fleet.commit(|text| text + &declared);

    let saved = fleet.path("plan.json");
    let commands = [&["plan", "--out", &saved][..], &["plan", "-o", "json"], &["status", "-o", "json"]];
    for command in commands {
        let run = Command::new(env!("CARGO_BIN_EXE_backstay"))
            .args(command)
            .args(["--config", &config, "-vv"])
            .env("BY_VARIABLE", secrets[1])
            .output()
            .unwrap();
        let told = format!("{}{}", stdout(&run), stderr(&run));
        assert!(told.contains("db3"), "{command:?}\n{told}");
        for secret in [secrets[0], secrets[1], secrets[3]] {
            assert!(!told.contains(secret), "{command:?} tells {secret}:\n{told}");
        }
    }
    let saved = fs::read_to_string(&saved).unwrap();
    for (number, secret) in secrets.iter().enumerate() {
        assert!(saved.contains(&format!("\"db{number}\"")), "{saved}");
        assert!(!saved.contains(secret), "the plan holds {secret}:\n{saved}");
    }
}
