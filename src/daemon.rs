//! The reconcile loop: something happens, a pass looks: the one under way, or else a new one. Whatever happened, it does the
//! same; only a person's request is more than "look now".

mod events;
pub mod fleets;
mod knocks;
mod orders;
mod pages;
pub mod poll;
mod publisher;
pub mod queue;
pub mod requests;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    apply::executor::{Halt, Listener},
    observe::Freshness,
    plan::manual,
    readers::Readers,
    reconcile::{Ask, Controller, Keep as Kept, Line, OpenError, Pass, PassError, Reply, Terms, Wanted},
    spec::names::FleetName,
    state::StateError,
    web::{self, Board, ListenError, Webhooks, webhooks::WebhookError},
};
pub use events::Event;
use events::Events;
use orders::{Order, Orders, Signals};
use pages::Pages;
use publisher::Publisher;
use queue::{Pace, Queue, Why};
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
    /// Something has woken the loop.
    fn woken(&self, _why: Why) {}
    /// A pass has ended, or is about to look anew and has come so far: what had ended by then is not told again.
    fn passed(&self, result: &Result<Pass, PassError>);
}

/// Runs the loop until a signal ends it. `open` reads the configuration.
pub async fn run(open: Open, audience: Arc<dyn Audience>) -> Result<Ended, DaemonError> {
    run_by(open, audience, Orders::Signals(Signals::listen()?), Window::Own).await
}

/// Runs the loop until one of `orders` ends it.
async fn run_by(
    open: Open,
    audience: Arc<dyn Audience>,
    orders: Orders,
    window: Window,
) -> Result<Ended, DaemonError> {
    let controller = Arc::new(open()?);
    let _one = controller.state().lock_controller()?;
    let webhooks = Arc::new(Notify::new());
    let (board, page) = page(&controller, webhooks.clone(), window).await?;
    let events = Events::open(&controller, webhooks, orders)?;
    audience.listens(page.address);
    let queue = Queue::new(Pace::default(), Instant::now());
    let (tell, rounds) = mpsc::unbounded_channel();
    let line = Arc::new(Line::telling(tell));
    let told = board.clone();
    let readers = Readers::new(Arc::new(move |backup, reader| told.reads(backup, reader)));
    let mut run = Run {
        open,
        controller,
        audience,
        board,
        queue,
        line,
        rounds,
        readers,
        publisher: Publisher::start(),
        latest: None,
        pass: None,
    };
    let ended = run.until_stopped(events).await;
    page.stop.cancel();
    Ok(ended)
}

/// The web page, where one is configured.
struct Page {
    address: Option<SocketAddr>,
    stop: CancellationToken,
}

/// Where a loop is shown.
enum Window {
    /// On an address of its own.
    Own,
    /// With those of other fleets.
    Shared { pages: Arc<Pages>, fleet: FleetName },
}

async fn page(
    controller: &Controller,
    heard: Arc<Notify>,
    window: Window,
) -> Result<(Arc<Board>, Page), DaemonError> {
    let poll = controller.config().repo.poll;
    let board = Arc::new(Board::new(poll.saturating_mul(3).saturating_add(FRESH)));
    let stop = CancellationToken::new();
    let Some(http) = &controller.config().http else {
        return Ok((board, Page { address: None, stop }));
    };
    let webhooks = Arc::new(Webhooks::open(http.webhooks.clone(), heard)?);
    let shown = web::Shown { board: board.clone(), webhooks, clock: controller.clock() };
    let address = match window {
        Window::Own => {
            let listener: TcpListener = web::listen(http.listen).await?;
            let address = listener.local_addr().ok();
            tracing::info!(?address, "the web page listens");
            tokio::spawn(web::serve(listener, shown, stop.clone()));
            address
        }
        Window::Shared { pages, fleet } => pages.show(&fleet, http.listen, shown).await?,
    };
    Ok((board, Page { address, stop }))
}

/// The loop's own state.
struct Run {
    open: Open,
    controller: Arc<Controller>,
    audience: Arc<dyn Audience>,
    board: Arc<Board>,
    queue: Queue,
    /// What a pass under way, or else the next one, is to hear.
    line: Arc<Line>,
    rounds: mpsc::UnboundedReceiver<Result<Pass, PassError>>,
    /// What reads logs as they are written.
    readers: Readers,
    /// What brings runbooks to their branch.
    publisher: Publisher,
    /// The last round of the pass under way.
    latest: Option<Pass>,
    pass: Option<Running>,
}

/// A pass under way.
struct Running {
    halt: Halt,
    task: JoinHandle<Result<Pass, PassError>>,
    began: Instant,
    /// Whether something failed since it was last told to look.
    failed: bool,
}

impl Run {
    async fn until_stopped(&mut self, mut events: Events) -> Ended {
        loop {
            self.begin();
            let pass = self.pass.as_mut().map(|pass| &mut pass.task);
            match events.next(self.queue.next(), &mut self.rounds, pass, &mut self.publisher).await {
                Event::Wake(why) => self.wake(why),
                Event::Due => {}
                Event::Asked(asked) => self.ask(asked),
                Event::Round(result) => self.round(*result),
                Event::PassEnded(result) => self.pass_ended(*result),
                Event::Published(unpublished) => self.board.published(unpublished),
                Event::Told(Order::Reload) => self.reload(),
                Event::Told(Order::Stop(ended)) => {
                    events.close().await;
                    self.stop().await;
                    return ended;
                }
            }
        }
    }

    /// Has a pass look where it is time for that: the one under way, or else a new one.
    fn begin(&mut self) {
        let reasons = self.queue.take(Instant::now());
        if !reasons.is_empty() {
            tracing::debug!(?reasons, "time to look");
            self.board.looks_for(reasons.iter().map(|why| why.as_str()));
            // A person who says "look", and whatever failed, want the world as it is.
            let anew = reasons.contains(&Why::Asked) || reasons.contains(&Why::Retry);
            self.line.look(if anew { Freshness::Now } else { Freshness::Within(FRESH) });
            self.pass.iter_mut().for_each(|pass| pass.failed = false);
        }
        if self.pass.is_none() && self.line.has_news() {
            self.begin_pass();
        }
    }

    fn begin_pass(&mut self) {
        let (controller, line, halt) = (self.controller.clone(), self.line.clone(), Halt::default());
        let listener: Arc<dyn Listener> = self.audience.clone();
        self.board.begins(controller.now());
        let stops = halt.clone();
        let task = tokio::spawn(async move {
            controller.apply_hearing(&line, &Ask::Everything, &Terms::default(), &stops, &listener).await
        });
        self.pass = Some(Running { halt, task, began: Instant::now(), failed: false });
    }

    fn wake(&mut self, why: Why) {
        match &self.pass {
            Some(_) if why.tells_of_a_commit() => {
                self.board.looks_for([why.as_str()]);
                self.line.commit(Freshness::Within(FRESH));
            }
            _ => self.queue.wake(why, Instant::now()),
        }
        self.audience.woken(why);
    }

    fn ask(&mut self, asked: Asked) {
        let (replies, told) = mpsc::unbounded_channel();
        let (requests, keep) = requested(&asked.request);
        tokio::spawn(pass_on(told, asked.answers));
        self.line.ask(Wanted { requests, keep, replies });
    }

    /// Reads the configuration again; a bad one changes nothing.
    fn reload(&mut self) {
        match (self.open)() {
            Ok(controller) if controller.state().root() != self.controller.state().root() => {
                tracing::error!(
                    "state_dir has changed: start the controller anew; the old configuration stays"
                );
            }
            Ok(controller) => {
                self.controller = Arc::new(controller);
                if self.pass.is_some() {
                    self.line.replace(self.controller.clone());
                }
            }
            Err(error) => tracing::error!(%error, "the old configuration stays"),
        }
        self.wake(Why::Asked);
    }

    /// The pass under way has come so far.
    fn round(&mut self, result: Result<Pass, PassError>) {
        self.heed_failures(&result);
        let shown = match &result {
            Ok(pass) => Ok(pass.status.clone()),
            Err(error) => Err(error.to_string()),
        };
        self.board.shows(shown, self.controller.now());
        match result {
            Ok(pass) => {
                self.follow(&pass);
                self.close(pass.looks);
                self.latest = Some(pass);
            }
            Err(_) => self.audience.passed(&result),
        }
    }

    /// Has those logs read as they are written for which the revision in force says so.
    fn follow(&mut self, pass: &Pass) {
        let means = self.controller.readers();
        self.readers.follow(&pass.readers, &means);
    }

    /// Tells the audience of what came of earlier looks than the one of this number.
    fn close(&mut self, looks: u32) {
        if let Some(earlier) = self.latest.take_if(|latest| latest.looks != looks) {
            self.audience.passed(&Ok(earlier));
        }
    }

    fn pass_ended(&mut self, result: Result<Pass, PassError>) {
        // What it told before it ended comes first.
        while let Ok(round) = self.rounds.try_recv() {
            self.round(round);
        }
        self.close(result.as_ref().map_or(0, |pass| pass.looks));
        self.latest = None;
        if let Ok(pass) = &result {
            self.follow(pass);
        }
        self.audience.passed(&result);
        self.heed_failures(&result);
        let Some(Running { began, failed, .. }) = self.pass.take() else { return };
        if !failed {
            self.queue.settled();
        }
        if let Some(runbooks) = result.as_ref().ok().and_then(|pass| pass.runbooks.clone()) {
            self.board.shelve(runbooks.shelf.clone());
            self.publisher.put(self.controller.clone(), runbooks);
        }
        let now = self.controller.now();
        let due = result.as_ref().ok().and_then(|pass| pass.next_due).map(|due| due.duration_since(now));
        self.queue.due_in(due.map(|due| Duration::try_from(due).unwrap_or_default()), Instant::now());
        let shown = result.map(|pass| pass.status).map_err(|error| error.to_string());
        self.board.ends(shown, began.elapsed(), now);
    }

    /// What failed is tried again later.
    fn heed_failures(&mut self, result: &Result<Pass, PassError>) {
        let again = match result {
            Ok(pass) => pass.try_again(),
            Err(error) => {
                tracing::error!(%error, "the pass did not come about");
                Some(None)
            }
        };
        let Some(least) = again else { return };
        self.pass.iter_mut().for_each(|pass| pass.failed = true);
        self.queue.failed(least, Instant::now());
    }

    /// Ends the pass under way, and cleans up after what it had begun.
    async fn stop(&mut self) {
        self.pass.iter().for_each(|pass| pass.halt.stop.cancel());
        self.readers.stop().await;
        let Some(mut pass) = self.pass.take() else { return };
        if let Err(error) = (&mut pass.task).await {
            tracing::error!(%error, "the pass under way ended badly; the next one cleans up after it");
        }
    }
}

fn requested(request: &requests::Request) -> (Vec<manual::Request>, Kept) {
    let requests = request.backups.iter().map(|backup| manual::Request {
        backup: backup.clone(),
        kind: request.kind,
        reason: request.reason.clone(),
    });
    let keep = match request.keep {
        Keep::ByPolicy => Kept::ByPolicy,
        Keep::Held => Kept::Held(request.reason.clone().unwrap_or_else(|| "asked for".to_owned())),
    };
    (requests.collect(), keep)
}

/// Passes on to a command what a pass says to it. A command that has gone away is not told.
async fn pass_on(mut told: mpsc::UnboundedReceiver<Reply>, answers: mpsc::UnboundedSender<Answer>) {
    while let Some(reply) = told.recv().await {
        let answer = match reply {
            Reply::Waits(why) => Answer::Progress(why),
            Reply::Ended(faults) => Answer::Ended { faults },
        };
        let _ = answers.send(answer);
    }
}
