//! The event loop: waits in one place, turns what the kernel says into events for the supervisor, and does what
//! the supervisor says.
//!
//! It decides nothing. The order within a turn matters: signals come first, so that a stop that came with a death
//! is known before the death is judged; then sockets and children's channels; then reaping; then timers.
//! Invariants: it blocks in `poll` only; without a deadline it waits for ever, so an idle pod has no wake-ups;
//! every source is drained or remembered, since mio tells of a change once.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use podrun_abi::PACKET_BYTES_MAX;
use podrun_abi::boot::Boot;
use podrun_abi::control::{Command, Reply, Request};
use podrun_abi::event::{End, Event as Told, Outcome};
use podrun_abi::failure::{StartFailure, Step};
use podrun_abi::notice::Store;

use crate::control::{CLIENTS_MAX, Control};
use crate::failure::OrFail;
use crate::handover::Handles;
use crate::process::{Process, Surroundings};
use crate::reap::{Left, reap};
use crate::report::Reporter;
use crate::signals::{SIGRTMIN_3, SIGRTMIN_4};
use crate::spawn::{Job, Progress};
use crate::supervisor::{Action, AppIndex, Event, Reach, Supervisor};
use crate::sys::process::SharedBytes;
use crate::sys::socket::{self, Received};
use crate::voice::{self, Heard, Voice};
use crate::watch::{Seen, Watches};

const SIGNALS: Token = Token(0);
const LAUNCHER: Token = Token(1);
const CONTROL: Token = Token(2);
const FIRST_CLIENT: usize = 3;
const FIRST_APP: usize = FIRST_CLIENT + CLIENTS_MAX;
/// Packets or signals taken from one source in one turn.
const TURN_MAX: usize = 64;
/// Pids named in [`Told::Unkillable`].
const PIDS_MAX: usize = 16;

/// The loop and all that it owns.
pub struct Reactor<'a> {
    boot: &'a Boot,
    handles: &'a Handles,
    poll: Poll,
    signals: SignalFd,
    control: Control,
    supervisor: Supervisor,
    processes: Vec<Process>,
    /// In the order of the apps.
    voices: Vec<Option<Voice>>,
    watches: Watches<'a>,
    /// Events that are still to be given to the supervisor.
    pending: VecDeque<Event>,
    actions: Vec<Action>,
    buffer: Box<[u8; PACKET_BYTES_MAX]>,
    /// Sources that were not drained in their turn.
    again: Again,
    exit_code: Option<u8>,
}

/// What has more to give than a turn could take.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Again {
    signals: bool,
    launcher: bool,
    control: bool,
    children: bool,
}

impl<'a> Reactor<'a> {
    /// Everything that can fail, before anything is started.
    pub fn new(
        boot: &'a Boot,
        handles: &'a Handles,
        voices: Vec<Option<Voice>>,
        signals: &SigSet,
    ) -> Result<Self, StartFailure> {
        let shared = SharedBytes::new(boot.apps.len()).or_fail(Step::ReadBoot, "shared memory")?;
        let processes = (0..boot.apps.len()).filter_map(|index| shared.get(index));
        let signals = SignalFd::with_flags(signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .or_fail(Step::ReadBoot, "signalfd")?;
        let poll = Poll::new().or_fail(Step::ReadBoot, "epoll")?;
        for (fd, token) in [
            (signals.as_raw_fd(), SIGNALS),
            (handles.links.launcher.number(), LAUNCHER),
            (handles.links.control.number(), CONTROL),
        ] {
            register(&poll, fd, token).or_fail(Step::ReadBoot, &format!("descriptor {fd}"))?;
        }
        for (voice, number) in voices.iter().zip(FIRST_APP + boot.apps.len()..) {
            let registered =
                voice.iter().try_for_each(|voice| voice.register(poll.registry(), Token(number)));
            registered.or_fail(Step::ReadBoot, "notify socket")?;
        }
        let watches = Watches::new(&boot.apps, handles);
        watches.register(poll.registry(), first_watch(boot)).or_fail(Step::ReadBoot, "cgroup file")?;
        Ok(Self {
            boot,
            handles,
            poll,
            signals,
            control: Control::new(handles.links.control, FIRST_CLIENT),
            supervisor: Supervisor::new(&boot.pod, &boot.apps),
            processes: processes.map(|byte| Process::new(Progress::new(byte))).collect(),
            voices,
            watches,
            pending: VecDeque::new(),
            actions: Vec::new(),
            buffer: Box::new([0; PACKET_BYTES_MAX]),
            again: Again::default(),
            exit_code: None,
        })
    }

    /// Runs the pod to its end; returns its exit code.
    pub fn run(&mut self, mut reporter: Reporter) -> u8 {
        let mut events = Events::with_capacity(256);
        loop {
            // EINTR and its like: the sources are looked at anyway.
            let _ = self.poll.poll(&mut events, self.timeout());
            self.turn(&events, &mut reporter);
            if let Some(code) = self.exit_code {
                reporter.finish();
                return code;
            }
        }
    }

    fn turn(&mut self, events: &Events, reporter: &mut Reporter) {
        let mut again = std::mem::take(&mut self.again);
        again.signals |= events.iter().any(|event| event.token() == SIGNALS);
        if again.signals {
            again.children |= self.read_signals();
        }
        again.launcher |= events.iter().any(|event| event.token() == LAUNCHER);
        if again.launcher {
            self.read_launcher(reporter);
        }
        self.settle(reporter);
        for event in events {
            self.read_other(event.token());
            self.settle(reporter);
        }
        self.listen(reporter);
        self.watch(reporter);
        // After those who leave have made room.
        if again.control || events.iter().any(|event| event.token() == CONTROL) {
            self.again.control |= self.control.accept(self.poll.registry(), Instant::now()) == Left::Maybe;
        }
        if again.children {
            self.reap();
        }
        self.check_groups(again.children);
        self.pending.push_back(Event::Tick);
        self.settle(reporter);
        self.control.expire(Instant::now());
        self.watch_backlog(reporter);
    }

    /// How long nothing is due.
    fn timeout(&self) -> Option<Duration> {
        if self.again != Again::default() {
            return Some(Duration::ZERO);
        }
        let groups = self.processes.iter().filter_map(Process::check_at).min();
        let now = Instant::now();
        let voices = self.voices.iter().flatten().filter_map(|voice| voice.more_at(now)).min();
        let control = self.control.next_deadline();
        let next = [self.supervisor.next_deadline(), control, groups, voices, self.watches.due_at()];
        let next = next.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(now))
    }

    /// Says whether a child may have ended.
    ///
    /// Signals from inside the pod are not obeyed. `kill` from outside arrives with pid 0, and `sigqueue`, whose
    /// sender can claim any pid, with a negative code.
    fn read_signals(&mut self) -> bool {
        let mut children = false;
        for _ in 0..TURN_MAX {
            let Ok(Some(info)) = self.signals.read_signal() else { return children };
            let outside = info.ssi_pid == 0 && info.ssi_code >= 0;
            match info.ssi_signo.cast_signed() {
                libc::SIGCHLD => children = true,
                libc::SIGQUIT if outside => self.pending.push_back(Event::Kill(Vec::new())),
                libc::SIGTERM | libc::SIGINT | SIGRTMIN_3 | SIGRTMIN_4 if outside => {
                    self.pending.push_back(Event::Stop(Vec::new(), None));
                }
                _ => {}
            }
        }
        self.again.signals = true;
        children
    }

    fn read_launcher(&mut self, reporter: &mut Reporter) {
        reporter.flush();
        for _ in 0..TURN_MAX {
            match socket::receive(&self.handles.links.launcher, &mut self.buffer[..]) {
                Received::Nothing => return,
                Received::TooLong => {}
                Received::Closed => {
                    reporter.close();
                    let fd = self.handles.links.launcher.number();
                    // A source that is not registered any more is not told of either.
                    if self.poll.registry().deregister(&mut SourceFd(&fd)).is_ok() {
                        self.pending.push_back(Event::LauncherGone);
                    }
                    return;
                }
                Received::Packet(length) => {
                    // The launcher gets no answers; it is of the same version and knows the apps.
                    if let Ok(event) = parse(&self.supervisor, self.buffer.get(..length)) {
                        self.pending.push_back(event);
                    }
                }
            }
        }
        self.again.launcher = true;
    }

    fn read_other(&mut self, token: Token) {
        let now = Instant::now();
        let apps = self.processes.len();
        match token {
            SIGNALS | LAUNCHER | CONTROL => {}
            Token(number) if number < FIRST_APP => self.serve(token, now),
            Token(number) if number < FIRST_APP + apps => self.hear(AppIndex(number - FIRST_APP)),
            Token(number) if number >= first_watch(self.boot) => {
                self.watches.rouse(number - first_watch(self.boot), now);
            }
            Token(number) => {
                self.voices.get_mut(number - FIRST_APP - apps).into_iter().flatten().for_each(Voice::rouse);
            }
        }
    }

    /// Tells of limits that were met.
    fn watch(&mut self, reporter: &mut Reporter) {
        let Seen { told, killed } = self.watches.look(Instant::now());
        told.into_iter().for_each(|told| reporter.send(told));
        self.pending.extend(killed.into_iter().map(Event::OomKilled));
        self.settle(reporter);
    }

    /// Takes what apps say of themselves, a few words of each.
    fn listen(&mut self, reporter: &mut Reporter) {
        let now = Instant::now();
        for index in 0..self.voices.len() {
            let voice = self.voices.get(index).and_then(Option::as_ref);
            if voice.and_then(|voice| voice.more_at(now)).is_some_and(|at| at <= now) {
                self.listen_to(AppIndex(index), now, reporter);
            }
        }
    }

    /// What came with it is closed when all that it led to was told.
    fn listen_to(&mut self, app: AppIndex, now: Instant, reporter: &mut Reporter) {
        for _ in 0..voice::TURN_MAX {
            let voice = self.voices.get_mut(app.0).and_then(Option::as_mut);
            let Some(mut heard) = voice.and_then(|voice| voice.hear(now)) else { return };
            self.pass_on(app, &mut heard, reporter);
            self.pending.push_back(Event::Said(app, std::mem::take(&mut heard.notice)));
            self.settle(reporter);
        }
    }

    /// Takes what an app has said before it ended, or one that is ready and ends at once would never have been ready.
    fn hear_out(&mut self, app: AppIndex, reporter: &mut Reporter) {
        for _ in 0..voice::LAST_MAX {
            let voice = self.voices.get_mut(app.0).and_then(Option::as_mut);
            let Some(mut heard) = voice.and_then(Voice::hear_last) else { return };
            self.pass_on(app, &mut heard, reporter);
            self.handle(Event::Said(app, std::mem::take(&mut heard.notice)), reporter);
        }
    }

    /// Descriptors are nothing to the table: the launcher gets them as they are.
    fn pass_on(&self, index: AppIndex, heard: &mut Heard, reporter: &mut Reporter) {
        let Some(store) = heard.notice.store.take().filter(|_| self.supervisor.listens_to(index)) else {
            return;
        };
        let app = self.boot.apps[index.0].name.clone();
        match store {
            Store::Keep { .. } if heard.attached.0.is_empty() => {}
            Store::Keep { name, poll } => {
                reporter.send_with(Told::Stores { app, name, poll }, std::mem::take(&mut heard.attached));
            }
            Store::Forget { name } => reporter.send(Told::Forgets { app, name }),
        }
    }

    /// Answers the requests of one client.
    fn serve(&mut self, token: Token, now: Instant) {
        for _ in 0..TURN_MAX {
            let Some(received) = self.control.receive(token, &mut self.buffer[..], now) else { return };
            let parsed = match received {
                Received::Packet(length) => parse_foreign(&self.supervisor, self.buffer.get(..length)),
                _ => Err("the request is too long".to_owned()),
            };
            let reply = match parsed {
                Ok(event) => {
                    self.pending.push_back(event);
                    Reply::Accepted
                }
                Err(reason) => Reply::Refused { reason },
            };
            self.control.reply(token, &reply);
        }
        // Nobody has that much to ask at a time.
        self.control.drop_client(token);
    }

    /// Takes what an app's child has said.
    fn hear(&mut self, app: AppIndex) {
        let process = self.processes.get_mut(app.0).zip(self.handles.apps.get(app.0));
        let registry = self.poll.registry();
        self.pending.extend(process.and_then(|(process, handles)| process.hear(app, handles, registry)));
    }

    fn reap(&mut self) {
        let around = Surroundings { pod: self.handles, registry: self.poll.registry() };
        let (processes, pending) = (&mut self.processes, &mut self.pending);
        let left = reap(|pid, end| reaped(processes, &around, pending, (pid, end)));
        self.again.children = left == Left::Maybe;
    }

    /// Looks at the groups that are being emptied; at all of them when children were reaped.
    fn check_groups(&mut self, reaped: bool) {
        let now = Instant::now();
        for (index, process) in self.processes.iter_mut().enumerate() {
            let due = process.check_at().is_some_and(|at| reaped || at <= now);
            if due && process.check_empty(&self.handles.apps[index], now) {
                self.pending.push_back(Event::Emptied(AppIndex(index)));
            }
        }
    }

    /// Gives every pending event to the supervisor and does what it says, which may lead to more of them.
    fn settle(&mut self, reporter: &mut Reporter) {
        while let Some(event) = self.pending.pop_front() {
            match event {
                Event::MainEnded(app, _) => self.hear_out(app, reporter),
                Event::StartFailed(app, _) => self.watch_out(app, reporter),
                _ => {}
            }
            self.handle(event, reporter);
        }
    }

    fn handle(&mut self, event: Event, reporter: &mut Reporter) {
        let mut actions = std::mem::take(&mut self.actions);
        self.supervisor.on(event, Instant::now(), &mut actions);
        for action in actions.drain(..) {
            self.perform(action, reporter);
        }
        self.actions = actions;
    }

    fn perform(&mut self, action: Action, reporter: &mut Reporter) {
        match action {
            Action::Start(app) => self.start(app),
            Action::Signal(app, signal, Reach::Main) => self.processes[app.0].signal(signal),
            Action::Signal(app, signal, Reach::All) => self.handles.apps[app.0].group.signal(signal),
            Action::Kill(app) => {
                self.handles.apps[app.0].group.kill();
                // The child of a start that is going on may not be in the group yet.
                self.processes[app.0].signal(libc::SIGKILL);
            }
            Action::Freeze(app) => self.handles.apps[app.0].group.freeze(true),
            Action::Thaw(app) => self.handles.apps[app.0].group.freeze(false),
            Action::Empty(app) => self.empty(app),
            Action::Report(event) => {
                if matches!(event, Told::PodEnded { .. }) {
                    let told = self.watches.last_look_at_pod(Instant::now());
                    told.into_iter().for_each(|told| reporter.send(told));
                }
                reporter.send(event);
            }
            Action::ReportEnded(app, outcome) => {
                self.watch_out(app, reporter);
                reporter.send(self.ended(app, outcome));
            }
            Action::ReportUnkillable(app) => reporter.send(self.unkillable(app)),
            Action::Exit(code) => self.exit_code = Some(code),
        }
    }

    fn start(&mut self, app: AppIndex) {
        let (process, handles) = (&mut self.processes[app.0], &self.handles.apps[app.0]);
        let progress = process.progress();
        let job = Job { boot: self.boot, app: &self.boot.apps[app.0], handles, progress };
        let token = Token(FIRST_APP + app.0);
        let registered = process
            .spawn(&job)
            .and_then(|()| process.register(self.poll.registry(), token).or_fail(Step::Clone, ""));
        // The child has its own.
        drop(handles.stored.take());
        if let Err(failure) = registered {
            process.signal(libc::SIGKILL);
            self.pending.push_back(Event::StartFailed(app, failure));
        }
    }

    /// The usual app leaves nothing behind, and then its end is told in the same turn.
    fn empty(&mut self, app: AppIndex) {
        let group = &self.handles.apps[app.0].group;
        if group.is_empty() {
            return self.pending.push_back(Event::Emptied(app));
        }
        group.kill();
        self.processes[app.0].begin_emptying(Instant::now());
    }

    /// What its group has to tell, before its end is told.
    fn watch_out(&mut self, app: AppIndex, reporter: &mut Reporter) {
        self.watches.last_look(app, Instant::now()).into_iter().for_each(|told| reporter.send(told));
    }

    fn ended(&mut self, app: AppIndex, mut outcome: Outcome) -> Told {
        self.processes[app.0].give_up();
        if outcome.end != End::Skipped {
            self.watches.account(app, &mut outcome, Instant::now());
        }
        Told::Ended { app: self.boot.apps[app.0].name.clone(), outcome }
    }

    fn unkillable(&self, app: AppIndex) -> Told {
        let mut pids = self.handles.apps[app.0].group.pids();
        pids.truncate(PIDS_MAX);
        Told::Unkillable { app: self.boot.apps[app.0].name.clone(), pids }
    }

    /// Wants to know when the launcher takes more, only while something waits for it.
    fn watch_backlog(&mut self, reporter: &mut Reporter) {
        if !reporter.is_behind() {
            return;
        }
        let fd = self.handles.links.launcher.number();
        let both = Interest::READABLE | Interest::WRITABLE;
        // Edge-triggered: setting it anew tells at once of a socket that can be written already.
        if self.poll.registry().reregister(&mut SourceFd(&fd), LAUNCHER, both).is_err() {
            reporter.close();
        }
    }
}

/// The token of the pod's own alarms; those of the apps follow. Before it are the apps' channels and voices.
fn first_watch(boot: &Boot) -> usize {
    FIRST_APP + 2 * boot.apps.len()
}

fn register(poll: &Poll, fd: RawFd, token: Token) -> std::io::Result<()> {
    poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE)
}

/// One death: of an app's main process, or of an orphan, which is no event.
fn reaped(
    processes: &mut [Process],
    around: &Surroundings<'_>,
    pending: &mut VecDeque<Event>,
    (pid, end): (i32, End),
) {
    let found = processes.iter_mut().enumerate().find(|(_, process)| process.is(pid));
    if let Some((index, process)) = found {
        process.reaped(AppIndex(index), end, around, pending);
    }
}

/// What a packet asks for, or why it is refused: lower case, no full stop.
fn parse(supervisor: &Supervisor, packet: Option<&[u8]>) -> Result<Event, String> {
    let request: Request = serde_json::from_slice(packet.unwrap_or_default())
        .map_err(|error| format!("the request cannot be read: {error}"))?;
    if request.version != podrun_abi::VERSION {
        return Err(format!("the pod speaks version {}, not {}", podrun_abi::VERSION, request.version));
    }
    supervisor.parse_command(&request.command)
}

/// The same from a client of the control socket, who may say less than the launcher.
fn parse_foreign(supervisor: &Supervisor, packet: Option<&[u8]>) -> Result<Event, String> {
    match parse(supervisor, packet)? {
        Event::Go => Err(format!("`{:?}` comes from the launcher only", Command::Go)),
        event => Ok(event),
    }
}
