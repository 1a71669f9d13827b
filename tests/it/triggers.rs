//! What makes the controller look, with the built program, the real `git` and pushes as people make them.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use backstay::status::{Concern, Condition};
use serde_json::Value;

use crate::{cli::backstay, git::git, passes::Fleet};

const PATIENCE: Duration = Duration::from_secs(120);
const TOKEN: &str = "a token that both sides know";

/// A fleet whose infra repo is on a Git server: one that this host can't watch.
struct Served {
    fleet: Fleet,
}

impl Served {
    fn new() -> Self {
        let fleet = Fleet::declared();
        git(&fleet.path(""), &["clone", "-q", "--bare", "infra", "served.git"]);
        let served = Self { fleet };
        served.write(
            "ssh",
            "#!/bin/sh\n# What ssh does, without a network.\nunset GIT_TRACE\nshift\nexec sh -c \"$*\"\n",
            0o755,
        );
        served.write("token", TOKEN, 0o600);
        let config = format!(
            "state_dir = \"state\"\n[repo]\nurl = \"ssh://git@localhost{}\"\npath = \"backup\"\npoll = \"1d\"\n\
             [http]\nlisten = \"127.0.0.1:0\"\nwebhooks.git = {{ secret = {{ file = \"token\" }} }}\n\
             [keys]\ndir = \"keys\"\n[allow]\nread = [\"data\"]\nwrite = [\"stores\"]\n",
            served.repo().display()
        );
        served.write("backstay.toml", &config, 0o600);
        served
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.fleet.path(name), text).unwrap();
        fs::set_permissions(self.fleet.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn repo(&self) -> PathBuf {
        self.fleet.path("served.git")
    }

    fn hook(&self) -> PathBuf {
        self.repo().join("hooks/post-receive")
    }

    fn backstay(&self, arguments: &[&str]) -> Output {
        let config = self.fleet.path("backstay.toml");
        let run = backstay(&[arguments, &["--config", config.to_str().unwrap()]].concat());
        assert!(run.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
        run
    }

    fn install(&self, arguments: &[&str]) {
        self.backstay(&[&["hook", "install", self.repo().to_str().unwrap()], arguments].concat());
    }

    /// Commits a change and pushes it; the commit, and what the push said.
    fn push(&self, note: &str) -> (String, String) {
        let commit = self.fleet.declare(&format!("{}\n# {note}", self.fleet.declaration()));
        let pushed = Command::new("git")
            .current_dir(&self.fleet.repo.path)
            .args(["push", "-q"])
            .arg(self.repo())
            .arg("main")
            .output()
            .unwrap();
        let said = String::from_utf8(pushed.stderr).unwrap();
        assert!(pushed.status.success(), "{said}");
        (commit, said)
    }

    fn run(&self) -> Loop {
        Loop::start(&self.fleet.path(""))
    }

    /// The `git` commands that the controller ran since the last time.
    fn commands(&self) -> Vec<String> {
        let trace = self.fleet.path("trace");
        let text = fs::read_to_string(&trace).unwrap_or_default();
        fs::write(&trace, "").unwrap();
        let commands = text.lines().filter_map(|line| line.split_once("trace: built-in: git "));
        commands.map(|(_, command)| command.split(' ').next().unwrap().to_owned()).collect()
    }
}

/// `backstay run`, killed when dropped.
struct Loop {
    child: Child,
    passes: mpsc::Receiver<Value>,
    address: String,
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Loop {
    /// Starts it, and waits for its first pass.
    fn start(root: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_backstay"))
            .args(["run", "-o", "json", "--config"])
            .arg(root.join("backstay.toml"))
            .env("GIT_SSH_COMMAND", root.join("ssh"))
            .env("GIT_SSH_VARIANT", "simple")
            .env("GIT_TRACE", root.join("trace"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, passes) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = send.send(serde_json::from_str(&line).unwrap());
            }
        });
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut address = String::new();
        while !address.contains("http://") {
            address.clear();
            assert_ne!(stderr.read_line(&mut address).unwrap(), 0, "it ended");
        }
        std::thread::spawn(move || stderr.read_to_end(&mut Vec::new()));
        let address = address.split_once("http://").unwrap().1.split_once('/').unwrap().0.to_owned();
        let mut started = Self { child, passes, address };
        started.pass();
        started
    }

    /// The next pass.
    fn pass(&mut self) -> Value {
        self.passes.recv_timeout(PATIENCE).expect("a pass")
    }

    /// Waits for a pass that had this revision in force.
    fn until(&mut self, revision: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.pass()["revision"] != revision {
            assert!(Instant::now() < deadline, "no pass with {revision}");
        }
    }
}

#[test]
fn a_look_with_nothing_new_is_one_ls_remote_and_any_new_reference_is_fetched() {
    let served = Served::new();
    let mut running = served.run();
    assert!(served.commands().contains(&"fetch".to_owned()), "the first look fetches");

    served.backstay(&["wake"]);
    running.pass();
    assert_eq!(served.commands(), ["ls-remote"]);

    for change in [&["tag", "v1"][..], &["branch", "other"], &["branch", "-D", "other"]] {
        git(&served.repo(), change);
        served.backstay(&["wake"]);
        running.pass();
        let commands = served.commands();
        assert_eq!(commands[0], "ls-remote", "{change:?}");
        assert!(commands.contains(&"fetch".to_owned()), "{change:?}: {commands:?}");
    }
}

#[test]
fn a_push_is_followed_at_once_by_the_hook_on_the_same_host_and_the_hook_before_it_still_runs() {
    let served = Served::new();
    let before = "#!/bin/sh\nread line\necho \"$line\" > received\necho told the pusher\n";
    fs::create_dir_all(served.repo().join("hooks")).unwrap();
    served.write("served.git/hooks/post-receive", before, 0o755);
    served.install(&[]);
    served.install(&[]);
    let mut running = served.run();

    let (commit, said) = served.push("a change");
    running.until(&commit);
    assert!(said.contains("told the pusher"), "{said}");
    let received = fs::read_to_string(served.repo().join("received")).unwrap();
    assert!(received.contains(&commit) && received.trim_end().ends_with("refs/heads/main"), "{received}");

    served.backstay(&["hook", "remove", served.repo().to_str().unwrap()]);
    assert_eq!(fs::read_to_string(served.hook()).unwrap(), before);
    served.backstay(&["hook", "remove", served.repo().to_str().unwrap()]);
    assert_eq!(fs::read_to_string(served.hook()).unwrap(), before);
}

#[test]
fn a_push_is_followed_at_once_by_the_hook_that_calls_the_webhook() {
    let served = Served::new();
    let mut running = served.run();
    let url = format!("http://{}/hooks/git", running.address);
    let token = served.fleet.path("token");
    served.install(&["--url", &url, "--token", token.to_str().unwrap()]);
    let (commit, said) = served.push("a change");
    assert_eq!(said, "");
    running.until(&commit);
    assert!(!fs::read_to_string(served.hook()).unwrap().contains(TOKEN), "the hook holds no secret");
}

#[test]
fn a_push_goes_through_in_silence_where_no_controller_runs() {
    let served = Served::new();
    served.install(&[]);
    assert_eq!(served.push("nobody hears").1, "");
    let token = served.fleet.path("token");
    served.install(&["--url", "http://127.0.0.1:1/hooks/git", "--token", token.to_str().unwrap()]);
    assert_eq!(served.push("nobody is there").1, "");
    fs::remove_file(token).unwrap();
    assert_eq!(served.push("no token").1, "");
    assert!(!served.fleet.path("state").exists(), "a hook makes no state directory");
}

#[test]
fn a_hook_is_refused_where_it_would_be_lost_or_overwrite_another() {
    let served = Served::new();
    let repo = served.repo();
    let refused = |arguments: &[&str]| {
        let run = backstay(&[&["hook", "install"], arguments].concat());
        assert_ne!(run.status.code(), Some(0), "{arguments:?}");
        String::from_utf8(run.stderr).unwrap()
    };
    let repo_text = repo.to_str().unwrap();
    served.write("token", TOKEN, 0o644);
    let token = served.fleet.path("token");
    let exposed = refused(&[repo_text, "--url", "http://h/hooks/git", "--token", token.to_str().unwrap()]);
    assert!(exposed.contains("chmod 600"), "{exposed}");
    assert!(refused(&[repo_text, "--url", "http://h/$(id)\n", "--token", "/t"]).contains("--url"));
    assert!(refused(&[served.fleet.path("data").to_str().unwrap()]).contains("Git repository"));

    fs::create_dir_all(repo.join("hooks")).unwrap();
    served.write("served.git/hooks/post-receive", "#!/bin/sh\n", 0o755);
    served.write("served.git/hooks/post-receive.chained", "#!/bin/sh\n# another\n", 0o755);
    assert!(refused(&[repo_text]).contains("move one of the two away"));
    assert_eq!(fs::read_to_string(served.hook()).unwrap(), "#!/bin/sh\n");

    git(&repo, &["config", "core.hooksPath", "/srv/hooks"]);
    assert!(refused(&[repo_text]).contains("core.hooksPath"));
}

#[tokio::test]
async fn an_infra_repo_that_is_away_shows_since_when_in_every_process_until_it_is_back() {
    let fleet = Fleet::declared();
    let unreachable = |conditions: &[Condition]| {
        let mut found = conditions.iter().filter(|condition| condition.concern == Concern::InfraUnreachable);
        found.next().map(|condition| condition.message.clone())
    };
    let first = fleet.pass().await;
    assert_eq!(unreachable(&first.status.conditions), None);
    assert!(first.status.revisions.contact.answered.is_some());

    fs::rename(&fleet.repo.path, fleet.path("away")).unwrap();
    fleet.later(Duration::from_secs(60));
    let since = format!("{:.0}", backstay::clock::Clock::now(&*fleet.clock));
    for _ in 0..2 {
        let pass = fleet.pass().await;
        let message = unreachable(&pass.status.conditions).expect("the condition");
        assert!(message.contains(&since), "{message}: not {since}");
        assert_eq!(pass.try_again(), None, "the poll asks again, and no store is listed for it");
        fleet.later(Duration::from_secs(3600));
    }
    fs::rename(fleet.path("away"), &fleet.repo.path).unwrap();
    let back = fleet.pass().await;
    assert_eq!(unreachable(&back.status.conditions), None);
    assert_eq!(fleet.pass().await.status.revisions.contact.silent, None);
}
