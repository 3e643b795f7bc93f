//! Threads of which one runs at a time, and whose order a seed decides.
//!
//! Callers and the callback thread are real threads, so that what blocks in the producer blocks
//! here, unchanged. A baton goes round: the main thread (which plays the network thread) gives it
//! to a task and waits until the task sleeps again. Tasks let go of it in [`Sleeper::sleep`] only:
//! no two ever run at once, nothing depends on the machine's scheduler, and who holds the baton may
//! lock whatever it likes without waiting.

use crate::clock::{Clock, Instant, Sleeper};
use crate::defects;
use crate::sync::{lock, notified};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle, Thread};

/// The main thread's number; tasks are numbered from 0.
const MAIN: usize = usize::MAX;

thread_local! {
    static ME: Cell<usize> = const { Cell::new(MAIN) };
    static SLEEPS: Cell<u64> = const { Cell::new(0) };
}

/// How often this task has let others run.
pub(super) fn sleeps() -> u64 {
    SLEEPS.get()
}

/// A thread that waits for its turn.
struct Task {
    name: &'static str,
    thread: Thread,
    handle: Option<JoinHandle<()>>,
    until: Instant,
    /// Set if it sleeps on something that may move: how much had moved when it looked last.
    looked: Option<u64>,
    done: bool,
}

/// What a task that is no longer wanted unwinds with.
struct Unwanted;

/// See the module's comment.
pub(super) struct Baton {
    turn: AtomicUsize,
    main: Thread,
    tasks: Mutex<Vec<Task>>,
    /// How often any signal has moved.
    moved: AtomicU64,
    ended: AtomicBool,
    /// What a task died of.
    panic: Mutex<Option<String>>,
}

impl Baton {
    /// Of the calling thread, which is the main thread from now on.
    pub(super) fn new() -> Arc<Baton> {
        notified::take();
        Arc::new(Baton {
            turn: AtomicUsize::new(MAIN),
            main: std::thread::current(),
            tasks: Mutex::default(),
            moved: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            panic: Mutex::default(),
        })
    }

    /// Starts a task, which runs from its first turn on.
    pub(super) fn spawn(
        self: &Arc<Self>,
        name: &'static str,
        at: Instant,
        task: impl FnOnce() + Send + 'static,
    ) {
        let mut tasks = lock(&self.tasks);
        let number = tasks.len();
        let baton = Arc::clone(self);
        let defect = defects::switched();
        let handle = Builder::new()
            .name(name.into())
            .stack_size(512 << 10)
            .spawn(move || {
                ME.set(number);
                defects::set(defect);
                baton.await_turn(number);
                let ended = baton.ended.load(Ordering::Acquire);
                let result = match ended {
                    // What it holds goes while it has the baton.
                    true => catch_unwind(AssertUnwindSafe(|| drop(task))),
                    false => catch_unwind(AssertUnwindSafe(task)),
                };
                if let Err(payload) = result
                    && !payload.is::<Unwanted>()
                {
                    lock(&baton.panic).get_or_insert_with(|| message_of(payload.as_ref()));
                }
                lock(&baton.tasks)[number].done = true;
                baton.give_back();
            })
            .unwrap();
        let thread = handle.thread().clone();
        let handle = Some(handle);
        tasks.push(Task { name, thread, handle, until: at, looked: None, done: false });
    }

    fn await_turn(&self, number: usize) {
        while self.turn.load(Ordering::Acquire) != number {
            std::thread::park();
        }
    }

    /// A task's: back to the main thread.
    fn give_back(&self) {
        self.moved.fetch_add(notified::take(), Ordering::Relaxed);
        self.turn.store(MAIN, Ordering::Release);
        self.main.unpark();
    }

    fn resume(&self, number: usize) {
        let thread = lock(&self.tasks)[number].thread.clone();
        self.turn.store(number, Ordering::Release);
        thread.unpark();
        self.await_turn(MAIN);
    }

    /// The tasks that have something to do, or to look at.
    pub(super) fn due(&self, now: Instant) -> Vec<usize> {
        self.moved.fetch_add(notified::take(), Ordering::Relaxed);
        let moved = self.moved.load(Ordering::Relaxed);
        let is_due = |task: &Task| {
            !task.done && (task.until <= now || task.looked.is_some_and(|looked| looked != moved))
        };
        let tasks = lock(&self.tasks);
        tasks.iter().enumerate().filter(|(_, task)| is_due(task)).map(|(at, _)| at).collect()
    }

    /// Runs a task until it sleeps; what it died of, if it did.
    pub(super) fn run(&self, number: usize) -> Result<(), String> {
        self.resume(number);
        match lock(&self.panic).take() {
            Some(text) => Err(format!("{}: {text}", lock(&self.tasks)[number].name)),
            None => Ok(()),
        }
    }

    /// When the next task's sleep is over at the latest.
    pub(super) fn next_deadline(&self) -> Instant {
        let tasks = lock(&self.tasks);
        let open = tasks.iter().filter(|task| !task.done);
        open.map(|task| task.until).min().unwrap_or(Instant::NEVER)
    }

    /// The tasks that have not ended, by name.
    pub(super) fn left(&self) -> Vec<&'static str> {
        lock(&self.tasks).iter().filter(|task| !task.done).map(|task| task.name).collect()
    }

    /// A task's own sleep.
    pub(super) fn sleep_until(&self, clock: &Clock, until: Instant) {
        while clock.now() < until {
            self.put_down(until, false);
        }
    }

    fn put_down(&self, until: Instant, looks: bool) {
        let me = ME.get();
        assert!(me != MAIN, "the network thread would block");
        self.moved.fetch_add(notified::take(), Ordering::Relaxed);
        {
            let mut tasks = lock(&self.tasks);
            tasks[me].until = until;
            tasks[me].looked = looks.then(|| self.moved.load(Ordering::Relaxed));
        }
        SLEEPS.set(SLEEPS.get() + 1);
        self.give_back();
        self.await_turn(me);
        if self.ended.load(Ordering::Acquire) {
            resume_unwind(Box::new(Unwanted));
        }
    }

    /// Ends all tasks, wherever they are.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        let count = lock(&self.tasks).len();
        for number in 0..count {
            // One that sleeps again while it unwinds is woken again.
            while !lock(&self.tasks)[number].done {
                self.resume(number);
            }
            let handle = lock(&self.tasks)[number].handle.take();
            if let Some(handle) = handle {
                let _ = handle.join();
            }
        }
    }
}

impl Sleeper for Baton {
    fn sleep(&self, clock: &Clock, deadline: Instant, moved: &dyn Fn() -> bool) -> bool {
        loop {
            if moved() {
                return true;
            }
            if clock.now() >= deadline {
                return false;
            }
            self.put_down(deadline, true);
        }
    }
}

/// A panic's words.
pub(super) fn message_of(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".into())
}
