//! Programs on this very host, of those that it allows.

use std::{collections::VecDeque, time::Duration};

use async_trait::async_trait;

use super::{ProvisionError, Remote};
use crate::{
    config::Allow,
    process::{ProcessError, Program},
};

/// How much of the end of what a program prints is kept, bytes.
const KEPT: usize = 16 << 10;

/// What runs programs on this host.
pub struct HereRemote {
    allow: Allow,
}

impl HereRemote {
    /// Of those that `allow` names.
    pub fn new(allow: Allow) -> Self {
        Self { allow }
    }
}

#[async_trait]
impl Remote for HereRemote {
    async fn wait(&self, _: Duration) -> Result<(), ProvisionError> {
        Ok(())
    }

    async fn run(&self, command: &[String], within: Duration) -> Result<String, ProvisionError> {
        let Some((name, arguments)) = command.split_first() else {
            return Err(ProvisionError::stalled("failed to run a program: none was named"));
        };
        self.allow.check_run(name).map_err(|refusal| ProvisionError::stalled(refusal.to_string()))?;
        let program = Program::new(name).arguments(arguments).timeout(within);
        let printed = tail_of(program).await;
        printed.map_err(|error| ProvisionError::stalled(format!("failed to run `{name}` here: {error}")))
    }
}

/// Runs a program to its successful end; the end of what it printed.
async fn tail_of(program: Program) -> Result<String, ProcessError> {
    let mut process = program.start()?;
    process.close_input();
    let mut kept = VecDeque::new();
    while let Some(bytes) = process.read().await? {
        kept.extend(bytes);
        kept.drain(..kept.len().saturating_sub(KEPT));
    }
    process.finish().await?;
    Ok(String::from_utf8_lossy(kept.make_contiguous()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_the_host_allows_is_run_and_its_failure_is_told() {
        let allow = Allow {
            read: Vec::new(),
            write: Vec::new(),
            secrets: Vec::new(),
            mirrors: Vec::new(),
            machines: Vec::new(),
            traffic: Vec::new(),
            run: vec!["echo".into(), "false".into()],
            delete_share: 0.5,
        };
        let here = HereRemote::new(allow);
        let run = |words: &[&str]| {
            let command: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let here = &here;
            async move { here.run(&command, Duration::from_secs(10)).await }
        };
        assert_eq!(run(&["echo", "a b", "$HOME"]).await.as_deref(), Ok("a b $HOME\n"));
        let refused = run(&["true"]).await.unwrap_err().to_string();
        assert!(refused.contains("`run` in [allow]"), "{refused}");
        assert!(run(&["false"]).await.is_err());
        assert!(run(&[]).await.is_err());
    }
}
