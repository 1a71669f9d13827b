//! `backstay backup NAME --scheduled`: what cron and systemd start.

use std::{sync::Arc, time::Duration};

use super::{controller::Interruption, exit::Exit, progress::Spinners, report, terminal::Terminal};
use crate::{
    apply::executor::Listener,
    daemon::requests,
    reconcile::{Ask, Controller, Pass, PassError, Terms},
    spec::names::BackupName,
    state::StateError,
};

/// Makes what is due of the backups, by the plan that every pass makes. A controller that runs on this host is told to look.
pub(super) async fn run(
    controller: &Controller,
    names: Vec<BackupName>,
    terminal: &Terminal,
) -> anyhow::Result<Exit> {
    if requests::wake(&controller.state().socket()).await?.is_some() {
        terminal.note("the controller that runs on this host makes what is due");
        return Ok(Exit::Done);
    }
    let interruption = Interruption::listen()?;
    let stop = interruption.halt().stop.clone();
    let pass = tokio::select! {
        () = stop.cancelled() => None,
        names = once_due(controller, names) => {
            Some(pass(controller, names?, &interruption, terminal).await?)
        }
    };
    let exit = match &pass {
        Some(pass) => {
            report::pass(pass, terminal)?;
            report::applied(pass)
        }
        None => Exit::Done,
    };
    Ok(interruption.exit_or(exit).await)
}

/// Waits out the jitter; returns what the backups are called now.
async fn once_due(controller: &Controller, names: Vec<BackupName>) -> Result<Vec<BackupName>, PassError> {
    let (names, mut due) = (controller.called_now(names).await?, None);
    for name in &names {
        due = due.max(controller.held_back_by_jitter(name).await?);
    }
    let long = due.map(|due| due.duration_since(controller.now()));
    tokio::time::sleep(long.and_then(|long| Duration::try_from(long).ok()).unwrap_or_default()).await;
    Ok(names)
}

/// One pass, once no other one is under way.
async fn pass(
    controller: &Controller,
    names: Vec<BackupName>,
    interruption: &Interruption,
    terminal: &Terminal,
) -> anyhow::Result<Pass> {
    let spinners: Arc<dyn Listener> = Arc::new(Spinners::new(terminal));
    let (ask, stop) = (Ask::Due(names), interruption.halt().stop.clone());
    loop {
        match controller.apply(&ask, &Terms::default(), interruption.halt(), &spinners).await {
            Err(PassError::State(StateError::Busy { .. })) if !stop.is_cancelled() => tokio::select! {
                () = stop.cancelled() => {}
                free = controller.wait_for_others() => free?,
            },
            ended => return Ok(ended?),
        }
    }
}
