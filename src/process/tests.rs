use super::*;

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(200);

/// A small script given to `sh` as data: the tests' stand-in for a dump program.
fn script(text: &str) -> Program {
    Program::new("/bin/sh").arguments(["-c", text]).grace(SHORT)
}

async fn all(process: &mut Process) -> Result<Vec<u8>, ProcessError> {
    let mut output = Vec::new();
    while let Some(bytes) = process.read().await? {
        output.extend_from_slice(&bytes);
    }
    Ok(output)
}

fn exists(id: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z ")
}

/// Waits for an end that another task brings about.
async fn gone(id: u32) {
    tokio::time::timeout(LONG, async {
        while exists(id) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the process ends");
}

#[tokio::test]
async fn output_comes_through_and_exit_status_0_is_success() {
    let mut process = script("cat; printf end").stall(LONG).start().unwrap();
    process.write(b"begin ").await.unwrap();
    process.close_input();
    assert_eq!(all(&mut process).await.unwrap(), b"begin end");
    process.finish().await.unwrap();
}

#[tokio::test]
async fn the_end_of_output_proves_nothing_and_the_exit_status_is_named() {
    let failing = script("echo part; echo 'disk is gone' >&2; exit 3").output(b"", 100).await.unwrap_err();
    assert_eq!(failing.to_string(), "failed to run sh: it ended with exit status 3: disk is gone");
    let killed = script("echo part; kill -9 $$").output(b"", 100).await.unwrap_err();
    assert_eq!(killed.to_string(), "failed to run sh: it ended with SIGKILL");
}

#[tokio::test]
async fn an_end_that_is_no_success_is_an_answer_where_it_is_asked_for() {
    let ran = script("printf abcdef; echo why >&2; exit 2").ran(Keep::End(3)).await.unwrap();
    assert_eq!((ran.exit, ran.printed.as_str(), ran.said.as_str()), (Exit::Code(2), "def", "why"));
    let ran = script("printf abcdef; printf ghi").ran(Keep::Beginning(4)).await.unwrap();
    assert_eq!((ran.exit, ran.printed.as_str()), (Exit::Code(0), "abcd"));
    let endless = script("sleep 600").timeout(SHORT).ran(Keep::End(1)).await;
    assert!(matches!(endless, Err(ProcessError::TimedOut { .. })), "{endless:?}");
}

#[tokio::test]
async fn what_left_the_group_is_waited_for_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("ended");
    let stray = format!("setsid sh -c 'echo begun; sleep 0.3; touch {}' & sleep 600", mark.display());
    let mut process = script(&stray).start().unwrap();
    assert_eq!(process.read().await.unwrap().as_deref(), Some(b"begun\n".as_slice()));
    process.stop_all(LONG).await;
    assert!(mark.exists(), "its end was not waited for");
}

#[tokio::test]
async fn a_missing_program_says_what_to_do() {
    let missing = Program::new("no-such-program-here").start().unwrap_err();
    assert!(missing.to_string().contains("install it"), "{missing}");
    assert!(matches!(find(&["a-b", "c-d"], OsStr::new("/usr/bin")), Err(ProcessError::Missing { .. })));
    assert!(find(&["no-such", "sh"], OsStr::new("relative:/bin")).unwrap().ends_with("sh"));
}

#[tokio::test]
async fn silence_ends_the_whole_group() {
    let mut process =
        script("sleep 600 & echo $!; trap '' TERM; wait; sleep 600").stall(SHORT).start().unwrap();
    let leader = process.id().unwrap();
    let printed = process.read().await.unwrap().unwrap();
    let grandchild = String::from_utf8_lossy(&printed).trim().parse().unwrap();
    assert!(matches!(process.read().await, Err(ProcessError::Stalled { .. })));
    gone(leader).await;
    gone(grandchild).await;
}

#[tokio::test]
async fn a_timeout_ends_a_program_that_prints_for_ever() {
    let mut process = script("while :; do echo again; done").timeout(SHORT).start().unwrap();
    let leader = process.id().unwrap();
    let error = loop {
        if let Err(error) = process.read().await {
            break error;
        }
    };
    assert!(matches!(error, ProcessError::TimedOut { .. }));
    gone(leader).await;
}

#[tokio::test]
async fn dropping_a_process_ends_its_group() {
    let mut process = script("sleep 600 & echo $!; sleep 600").start().unwrap();
    let leader = process.id().unwrap();
    let printed = process.read().await.unwrap().unwrap();
    let grandchild = String::from_utf8_lossy(&printed).trim().parse().unwrap();
    drop(process);
    gone(leader).await;
    gone(grandchild).await;
}

#[tokio::test]
async fn a_program_that_leaves_its_input_reports_its_own_reason() {
    let mut process = script("echo 'bad statement' >&2; exit 1").start().unwrap();
    let error = loop {
        if let Err(error) = process.write(&[0; 65536]).await {
            break error;
        }
    };
    assert!(error.to_string().ends_with("exit status 1: bad statement"), "{error}");
}

#[tokio::test]
async fn the_environment_is_clean_but_for_what_was_added() {
    let printed = Program::new("env").variable("ADDED", "yes").output(b"", 1 << 16).await.unwrap();
    let printed = String::from_utf8(printed).unwrap();
    assert!(printed.lines().any(|line| line == "ADDED=yes"));
    for line in printed.lines().filter(|line| *line != "ADDED=yes") {
        let name = line.split('=').next().unwrap();
        assert!(INHERITED.contains(&name), "{line}");
    }
}

#[tokio::test]
async fn what_a_program_prints_too_much_ends_it() {
    let error = script("while :; do echo again; done").output(b"", 100).await.unwrap_err();
    assert!(matches!(error, ProcessError::TooMuch { limit: 100, .. }));
}

#[tokio::test]
async fn secrets_are_struck_out_of_errors() {
    let secret = Secret::new("s3cr3t-value".to_owned());
    let error =
        script("echo \"login with s3cr3t-value refused\" >&2; exit 1").redact(&secret).output(b"", 9).await;
    let shown = format!("{0} {0:?}", error.unwrap_err());
    assert!(!shown.contains("s3cr3t") && shown.contains("login with *** refused"), "{shown}");
}

#[test]
fn private_files_are_private_and_vanish() {
    use std::os::unix::fs::PermissionsExt;
    let file = PrivateFile::new("content").unwrap();
    let path = file.path().to_owned();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "content");
    drop(file);
    assert!(!path.exists());
}
