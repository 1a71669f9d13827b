//! The reconcile loop: something happens, a pass looks. Whatever happened, the pass is the same; only a person's request
//! and a newer revision are more than "look now".

mod events;
mod knocks;
pub mod poll;
pub mod queue;
pub mod requests;

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::Notify, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    apply::executor::{Halt, Listener, Outcome},
    observe::Freshness,
    reconcile::{Ask, Controller, Keep as Kept, OpenError, Pass, PassError, Terms},
    state::StateError,
    web::{self, Board, ListenError, Webhooks, webhooks::WebhookError},
};
pub use events::Event;
use events::Events;
use queue::{Pace, Queue, Verdict, Why};
use requests::{Answer, Asked, Keep, RequestError};

/// What was seen is good enough for passes that time or a commit begins, when it is not older than this.
const FRESH: Duration = Duration::from_secs(600);

/// How the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// SIGINT: exit code 130.
    Interrupted,
    /// SIGTERM: exit code 143.
    Terminated,
}

/// Why the loop could not begin.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Another controller runs here, or the state directory is unusable.
    #[error(transparent)]
    State(#[from] StateError),
    /// The controller could not be set up.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The address is taken.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Webhooks can't be taken.
    #[error(transparent)]
    Webhooks(#[from] WebhookError),
    /// Commands can't be heard.
    #[error(transparent)]
    Requests(#[from] RequestError),
    /// Signals can't be heard.
    #[error("failed to listen for signals: {0}; start it anew")]
    Signals(#[from] std::io::Error),
}

/// Sets up a controller: at the start, and anew on SIGHUP.
pub type Open = Box<dyn Fn() -> Result<Controller, OpenError> + Send + Sync>;

/// Hears of everything that the loop does.
pub trait Audience: Listener {
    /// Requests are heard from now on, and the web page, where one is configured, listens there.
    fn listens(&self, address: Option<SocketAddr>);
    /// Something has woken the loop, and what waits has been told to give way if it must.
    fn woken(&self, _why: Why) {}
    /// A pass has ended.
    fn passed(&self, result: &Result<Pass, PassError>);
}

/// Runs the loop until a signal ends it. `open` reads the configuration.
pub async fn run(open: Open, audience: Arc<dyn Audience>) -> Result<Ended, DaemonError> {
    let controller = Arc::new(open()?);
    let _one = controller.state().lock_controller()?;
    let webhooks = Arc::new(Notify::new());
    let (board, page) = page(&controller, webhooks.clone()).await?;
    let events = Events::open(&controller, webhooks)?;
    audience.listens(page.address);
    let queue = Queue::new(Pace::default(), Instant::now());
    let mut run = Run { open, controller, audience, board, queue, asked: VecDeque::new(), pass: None };
    let ended = run.until_stopped(events).await;
    page.stop.cancel();
    Ok(ended)
}

/// The web page, where one is configured.
struct Page {
    address: Option<SocketAddr>,
    stop: CancellationToken,
}

async fn page(controller: &Controller, heard: Arc<Notify>) -> Result<(Arc<Board>, Page), DaemonError> {
    let poll = controller.config().repo.poll;
    let board = Arc::new(Board::new(poll.saturating_mul(3).saturating_add(FRESH)));
    let stop = CancellationToken::new();
    let Some(http) = &controller.config().http else {
        return Ok((board, Page { address: None, stop }));
    };
    let webhooks = Arc::new(Webhooks::open(http.webhooks.clone(), heard)?);
    let listener: TcpListener = web::listen(http.listen).await?;
    let address = listener.local_addr().ok();
    tracing::info!(?address, "the web page listens");
    let shown = web::Shown { board: board.clone(), webhooks, clock: controller.clock() };
    tokio::spawn(web::serve(listener, shown, stop.clone()));
    Ok((board, Page { address, stop }))
}

/// The loop's own state.
struct Run {
    open: Open,
    controller: Arc<Controller>,
    audience: Arc<dyn Audience>,
    board: Arc<Board>,
    queue: Queue,
    asked: VecDeque<Asked>,
    pass: Option<Running>,
}

/// A pass under way.
struct Running {
    halt: Halt,
    task: JoinHandle<Result<Pass, PassError>>,
    began: Instant,
    /// Whom to answer, when a person asked for it.
    asked: Option<Asked>,
}

impl Run {
    async fn until_stopped(&mut self, mut events: Events) -> Ended {
        loop {
            if self.pass.is_none() {
                self.begin();
            }
            match events.next(self.queue.next(), self.pass.as_mut().map(|pass| &mut pass.task)).await {
                Event::Wake(why) => self.wake(why),
                Event::Due => {}
                Event::Reload => self.reload(),
                Event::Asked(asked) => self.ask(asked),
                Event::PassEnded(result) => self.pass_ended(*result),
                Event::Stop(ended) => {
                    self.stop().await;
                    return ended;
                }
            }
        }
    }

    /// Begins what is next: a person's request before anything else.
    fn begin(&mut self) {
        if let Some(asked) = self.asked.pop_front() {
            let ask = ask_of(&asked);
            return self.begin_pass(ask, Freshness::Within(FRESH), Some(asked));
        }
        let reasons = self.queue.take(Instant::now());
        if reasons.is_empty() {
            return;
        }
        tracing::debug!(?reasons, "a pass begins");
        self.board.looks_for(reasons.iter().map(|why| why.as_str()));
        // A person who says "look", and whatever failed, want the world as it is.
        let anew = reasons.contains(&Why::Asked) || reasons.contains(&Why::Retry);
        let freshness = if anew { Freshness::Now } else { Freshness::Within(FRESH) };
        self.begin_pass(Ask::Everything, freshness, None);
    }

    fn begin_pass(&mut self, ask: Ask, freshness: Freshness, asked: Option<Asked>) {
        let (controller, halt) = (self.controller.clone(), Halt::default());
        let listener: Arc<dyn Listener> = self.audience.clone();
        self.board.begins(controller.now());
        let stops = halt.clone();
        let task = tokio::spawn(async move {
            let terms = Terms { freshness };
            controller.apply(&ask, &terms, &stops, &listener).await
        });
        self.pass = Some(Running { halt, task, began: Instant::now(), asked });
    }

    fn wake(&mut self, why: Why) {
        self.queue.wake(why, Instant::now());
        if let (true, Some(pass)) = (why.tells_of_a_commit(), &self.pass) {
            // What waits would keep the newer revision waiting; what is under way goes on.
            pass.halt.yield_soon.cancel();
        }
        self.audience.woken(why);
    }

    fn ask(&mut self, asked: Asked) {
        if self.pass.is_some() {
            // A command that has gone away is not told.
            let _ = asked.answers.send(Answer::Progress("waiting for the pass under way".to_owned()));
        }
        self.asked.push_back(asked);
    }

    /// Reads the configuration again; a bad one changes nothing.
    fn reload(&mut self) {
        match (self.open)() {
            Ok(controller) if controller.state().root() != self.controller.state().root() => {
                tracing::error!(
                    "state_dir has changed: start the controller anew; the old configuration stays"
                );
            }
            Ok(controller) => self.controller = Arc::new(controller),
            Err(error) => tracing::error!(%error, "the old configuration stays"),
        }
        self.wake(Why::Asked);
    }

    fn pass_ended(&mut self, result: Result<Pass, PassError>) {
        let Some(Running { began, asked, .. }) = self.pass.take() else { return };
        self.audience.passed(&result);
        let now = self.controller.now();
        let (verdict, due) = match &result {
            Ok(pass) => {
                let due = pass.next_due.map(|due| due.duration_since(now));
                (verdict(pass), due.map(|due| Duration::try_from(due).unwrap_or_default()))
            }
            Err(error) => {
                tracing::error!(%error, "the pass did not come about");
                (Verdict::TryAgain(None), None)
            }
        };
        if let Some(asked) = asked {
            // A command that has gone away is not told.
            let _ = asked.answers.send(Answer::Ended { faults: faults(&result) });
        }
        self.queue.ended(verdict, due, Instant::now());
        let shown = result.map(|pass| pass.status).map_err(|error| error.to_string());
        self.board.ends(shown, began.elapsed(), now);
    }

    /// Ends the pass under way, and cleans up after what it had begun.
    async fn stop(&mut self) {
        let Some(mut pass) = self.pass.take() else { return };
        pass.halt.stop.cancel();
        if let Err(error) = (&mut pass.task).await {
            tracing::error!(%error, "the pass under way ended badly; the next one cleans up after it");
        }
    }
}

fn ask_of(asked: &Asked) -> Ask {
    let request = &asked.request;
    let requests = request.backups.iter().map(|backup| crate::plan::manual::Request {
        backup: backup.clone(),
        kind: request.kind,
        reason: request.reason.clone(),
    });
    let keep = match request.keep {
        Keep::ByPolicy => Kept::ByPolicy,
        Keep::Held => Kept::Held(request.reason.clone().unwrap_or_else(|| "asked for".to_owned())),
    };
    Ask::Backup(requests.collect(), keep)
}

fn verdict(pass: &Pass) -> Verdict {
    if pass.gave_way() {
        return Verdict::GaveWay;
    }
    pass.try_again().map_or(Verdict::Settled, Verdict::TryAgain)
}

/// What a person who asked must be told.
fn faults(result: &Result<Pass, PassError>) -> Vec<String> {
    let pass = match result {
        Ok(pass) => pass,
        Err(error) => return vec![error.to_string()],
    };
    let steps = pass.plan.steps.iter().filter_map(|step| match pass.outcomes.get(&step.id)? {
        Outcome::Done(_) => None,
        Outcome::Failed(failure) => Some(failure.to_string()),
        Outcome::Skipped(why) => Some(format!("skipped: {}: {why}", step.action)),
        Outcome::Cancelled => Some(format!("cancelled: {}", step.action)),
    });
    steps.chain(pass.unrecorded.iter().cloned()).collect()
}
