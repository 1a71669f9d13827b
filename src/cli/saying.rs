//! What a person says: written into the stores' records, and told to a controller that runs.

use std::path::Path;

use serde::Serialize;

use super::{Output, controller, exit::Exit, terminal::Terminal};
use crate::{
    daemon::requests,
    reconcile::{Controller, Recorded, Saying},
    spec::names::StoreName,
};

/// How a saying is told as JSON.
#[derive(Serialize)]
struct Told<'a> {
    subject: &'a str,
    stores: &'a [StoreName],
    faults: &'a [String],
}

/// Writes a saying down and shows `told`, the words for what it means for `subject`.
pub(super) fn say(
    controller: &Controller,
    saying: Saying,
    (subject, told): (&str, &str),
    terminal: &Terminal,
) -> anyhow::Result<Exit> {
    controller::block_on(async {
        let Recorded { stores, faults } = controller.say(saying).await?;
        for fault in &faults {
            terminal.note(&format!("{} {fault}", terminal.stderr.warn("!")));
        }
        match terminal.output {
            Output::Json => {
                let told = Told { subject, stores: &stores, faults: &faults };
                terminal.json("backstay.saying/1", &told)?;
            }
            Output::Text => terminal.data(&format!("{told}\n"))?,
        }
        wake(&controller.state().socket(), terminal).await;
        Ok(if faults.is_empty() { Exit::Done } else { Exit::Partial })
    })
}

/// Tells a controller that runs on this state directory to look.
pub(super) async fn wake(socket: &Path, terminal: &Terminal) {
    match requests::wake(socket).await {
        Ok(Some(())) => terminal.note("The controller that runs on this host takes it up now."),
        Ok(None) => terminal.note("It comes into force with the next pass, such as `backstay apply`."),
        Err(error) => terminal.note(&format!("{} {error}", terminal.stderr.warn("!"))),
    }
}

/// `user@host`, for people: whoever may run this may write any name.
pub(super) fn person() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let user = user.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{user}@{host}").chars().filter(|c| !c.is_control()).take(200).collect()
}
