//! A way to a server that can be cut, as a network is.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
};

/// Forwards connections to a port of this machine.
pub struct Proxy {
    port: u16,
    way: Arc<Way>,
}

/// What both ends of every connection see.
struct Way {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Open for so many more bytes of the server's, then broken like this.
    Until(u64, Break),
    Broken(Break),
    /// The proxy is gone.
    Over,
}

/// How a way is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Connections end, and no new one is made.
    Cut,
    /// Nothing gets through, and nobody is told.
    Silent,
}

impl Proxy {
    /// A way to `port`.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let own = listener.local_addr().expect("a bound socket has an address").port();
        let way = Arc::new(Way { state: Mutex::new(State::Open), changed: Condvar::new() });
        let accepting = way.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                match accepting.now() {
                    State::Over => break,
                    // Dropped: the client sees its connection end.
                    State::Broken(Break::Cut) => {}
                    _ => forward(client, port, &accepting),
                }
            }
        });
        Self { port: own, way }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Breaks the way once the server has sent so many more bytes.
    pub fn break_after(&self, bytes: u64, how: Break) {
        self.way.set(State::Until(bytes, how));
    }

    /// Whether the way is broken now.
    pub fn is_broken(&self) -> bool {
        matches!(self.way.now(), State::Broken(_))
    }

    /// Makes it as good as new.
    pub fn mend(&self) {
        self.way.set(State::Open);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.way.set(State::Over);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)));
    }
}

impl Way {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    fn now(&self) -> State {
        *self.state()
    }

    fn set(&self, state: State) {
        *self.state() = state;
        self.changed.notify_all();
    }

    /// Whether so many bytes of the server's may pass: waits while the way is silent, and says no once it is cut.
    fn lets_pass(&self, bytes: u64) -> bool {
        let mut state = self.state();
        if let State::Until(left, how) = *state {
            *state = match left.checked_sub(bytes) {
                Some(left) => State::Until(left, how),
                None => State::Broken(how),
            };
        }
        let is_silent = |state: &mut State| *state == State::Broken(Break::Silent);
        let state = self.changed.wait_while(state, is_silent).expect("no holder panics");
        !matches!(*state, State::Broken(Break::Cut) | State::Over)
    }
}

fn forward(client: TcpStream, port: u16, way: &Arc<Way>) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return };
    for (from, to, counts) in [(&client, &server, 0), (&server, &client, 1)] {
        let (mut from, mut to, way) = (from.try_clone().unwrap(), to.try_clone().unwrap(), way.clone());
        thread::spawn(move || {
            let mut piece = vec![0; 16 * 1024];
            while let Ok(length @ 1..) = from.read(&mut piece) {
                if !way.lets_pass(length as u64 * counts) || to.write_all(&piece[..length]).is_err() {
                    break;
                }
            }
            let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
        });
    }
}
