//! What a loop is told by whoever runs it: this process's signals, or what runs several loops.

use std::{future::pending, io};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use super::Ended;

/// What a loop is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// SIGHUP: read the configuration, and look.
    Reload,
    /// SIGINT or SIGTERM.
    Stop(Ended),
}

/// The signals of this process.
#[derive(Debug)]
pub(super) struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Listens from now on. Must be called within a Tokio runtime.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next one. Cancel safe.
    pub(super) async fn next(&mut self) -> Order {
        tokio::select! {
            Some(()) = self.terminate.recv() => Order::Stop(Ended::Terminated),
            Some(()) = self.interrupt.recv() => Order::Stop(Ended::Interrupted),
            Some(()) = self.hangup.recv() => Order::Reload,
            else => pending().await,
        }
    }
}

/// Where a loop's orders come from.
#[derive(Debug)]
pub(super) enum Orders {
    /// It is the only one of this process.
    Signals(Signals),
    /// Something else hears the signals.
    Handed(mpsc::UnboundedReceiver<Order>),
}

impl Orders {
    /// Waits for the next one. Cancel safe. A loop that nobody runs any more ends.
    pub(super) async fn next(&mut self) -> Order {
        match self {
            Orders::Signals(signals) => signals.next().await,
            Orders::Handed(orders) => orders.recv().await.unwrap_or(Order::Stop(Ended::Terminated)),
        }
    }
}
