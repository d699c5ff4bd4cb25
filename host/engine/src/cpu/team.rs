//! Threads that go through one piece of work in lock-step: each does its share of a step, and waits at a barrier for the
//! others before the next. A step of a small model takes microseconds, so waiting is spinning at first, then yielding, and
//! between pieces of work the threads sleep.

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Turns of a waiting loop before the thread offers its core to others.
const SPINS: u32 = 2_000;
/// Turns of an idle member before it sleeps: about as long as sampling a token takes.
const IDLE_SPINS: u32 = 20_000;

/// Work as the members see it; the pointer is valid until all are done with it.
#[derive(Clone, Copy)]
struct Work(*const (dyn Fn(&Member<'_>) + Sync));
// SAFETY: what it points to is Sync, and `Team::run` keeps it alive until every member has finished.
unsafe impl Send for Work {}

#[derive(Default)]
struct Desk {
    work: Option<Work>,
    closed: bool,
    panic: Option<Box<dyn Any + Send>>,
}

struct Shared {
    size: usize,
    /// Counts pieces of work; a change calls the members.
    calls: AtomicUsize,
    /// Members that have finished the piece.
    finished: AtomicUsize,
    /// Members at the barrier, and how often all have met there.
    waiting: AtomicUsize,
    meetings: AtomicUsize,
    /// Somebody panicked: nobody waits any longer.
    broken: AtomicBool,
    desk: Mutex<Desk>,
    bell: Condvar,
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lays something on the desk and calls the members to it.
    fn call(&self, lay: impl FnOnce(&mut Desk)) {
        let mut desk = self.desk();
        lay(&mut desk);
        // Under the lock, so that nobody falls asleep between looking and waiting.
        self.calls.fetch_add(1, Ordering::Release);
        drop(desk);
        self.bell.notify_all();
    }
}

/// Waits until `done`, politely.
fn wait_until(done: impl Fn() -> bool) {
    let mut turns = 0;
    while !done() {
        turns += 1;
        if turns < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
}

/// A fixed number of threads, the caller's among them.
pub(crate) struct Team {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// One piece of work at a time.
    turn: Mutex<()>,
}

impl Team {
    /// A team of `size` threads; errors when the system has none left.
    pub fn new(size: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            size: size.max(1),
            calls: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            meetings: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            desk: Mutex::default(),
            bell: Condvar::new(),
        });
        let mut team = Self { shared, threads: Vec::new(), turn: Mutex::new(()) };
        for index in 1..team.size() {
            let shared = team.shared.clone();
            let thread = std::thread::Builder::new().name(format!("engine-{index}"));
            team.threads.push(thread.spawn(move || serve(&shared, index))?);
        }
        Ok(team)
    }

    /// Number of threads.
    pub fn size(&self) -> usize {
        self.shared.size
    }

    /// Has every member do `work`, the caller as member 0, and returns when all have. Panics if one of them does.
    pub fn run(&self, work: &(dyn Fn(&Member<'_>) + Sync)) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        if shared.size > 1 {
            // SAFETY: only the lifetime is changed, and `work` outlives this call, which waits for all members below.
            let work = unsafe {
                std::mem::transmute::<*const (dyn Fn(&Member<'_>) + Sync + '_), *const (dyn Fn(&Member<'_>) + Sync)>(
                    work,
                )
            };
            shared.finished.store(0, Ordering::Relaxed);
            shared.call(|desk| desk.work = Some(Work(work)));
        }
        let own = catch_unwind(AssertUnwindSafe(|| work(&Member { shared, index: 0 })));
        if own.is_err() {
            shared.broken.store(true, Ordering::Release);
        }
        wait_until(|| shared.finished.load(Ordering::Acquire) == shared.size - 1 || shared.size == 1);
        let theirs = {
            let mut desk = shared.desk();
            desk.work = None;
            desk.panic.take()
        };
        if shared.broken.swap(false, Ordering::AcqRel) {
            shared.waiting.store(0, Ordering::Release);
        }
        match (own, theirs) {
            // A member that gave up because another panicked says less than that other one.
            (_, Some(panic)) => resume_unwind(panic),
            (Err(panic), None) => resume_unwind(panic),
            (Ok(()), None) => {}
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.call(|desk| desk.closed = true);
        for thread in self.threads.drain(..) {
            // A member catches its panics, so it ends in good order.
            let _ = thread.join();
        }
    }
}

/// The life of a member other than the caller.
fn serve(shared: &Shared, index: usize) {
    let mut answered = 0;
    loop {
        let mut turns = 0;
        while shared.calls.load(Ordering::Acquire) == answered && turns < IDLE_SPINS {
            turns += 1;
            std::hint::spin_loop();
        }
        let work = {
            let mut desk = shared.desk();
            while shared.calls.load(Ordering::Acquire) == answered {
                desk = shared.bell.wait(desk).unwrap_or_else(PoisonError::into_inner);
            }
            answered = shared.calls.load(Ordering::Acquire);
            if desk.closed {
                return;
            }
            desk.work
        };
        let Some(Work(work)) = work else { continue };
        // SAFETY: `Team::run` keeps the work alive until this member counts itself as finished.
        let result = catch_unwind(AssertUnwindSafe(|| unsafe { (*work)(&Member { shared, index }) }));
        if let Err(panic) = result {
            shared.broken.store(true, Ordering::Release);
            if !panic.is::<GaveUp>() {
                shared.desk().panic = Some(panic);
            }
        }
        shared.finished.fetch_add(1, Ordering::Release);
    }
}

/// The panic of a member that was left waiting by one that panicked.
struct GaveUp;

/// One thread's view of the team while it works.
pub(crate) struct Member<'a> {
    shared: &'a Shared,
    /// From 0, the caller.
    pub index: usize,
}

impl Member<'_> {
    /// Number of threads at work.
    pub fn size(&self) -> usize {
        self.shared.size
    }

    /// Waits for the others; what they wrote before is seen after.
    pub fn barrier(&self) {
        let shared = self.shared;
        if shared.size == 1 {
            return;
        }
        let meeting = shared.meetings.load(Ordering::Acquire);
        if shared.waiting.fetch_add(1, Ordering::AcqRel) + 1 == shared.size {
            shared.waiting.store(0, Ordering::Relaxed);
            shared.meetings.fetch_add(1, Ordering::Release);
            return;
        }
        wait_until(|| shared.meetings.load(Ordering::Acquire) != meeting || shared.broken.load(Ordering::Acquire));
        if shared.meetings.load(Ordering::Acquire) == meeting {
            std::panic::panic_any(GaveUp);
        }
    }

    /// This member's share of `count` things: a range of whole `unit`s.
    pub fn share(&self, count: usize, unit: usize) -> Range<usize> {
        let units = count.div_ceil(unit);
        let of = |index: usize| (units * index / self.shared.size * unit).min(count);
        of(self.index)..of(self.index + 1)
    }

    /// The next range of at most `chunk` of `count` things that nobody has taken; `taken` starts at 0. For work that takes
    /// members unequally long.
    pub fn claim(&self, taken: &AtomicUsize, count: usize, chunk: usize) -> Option<Range<usize>> {
        let start = taken.fetch_add(chunk, Ordering::Relaxed);
        (start < count).then(|| start..(start + chunk).min(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_sees_what_all_did_before_the_barrier() {
        for size in [1, 2, 5] {
            let team = Team::new(size).unwrap();
            for _ in 0..200 {
                let cells: Vec<AtomicUsize> = (0..size).map(|_| AtomicUsize::new(0)).collect();
                team.run(&|member| {
                    for round in 1..=5 {
                        cells[member.index].store(round, Ordering::Relaxed);
                        member.barrier();
                        assert!(cells.iter().all(|c| c.load(Ordering::Relaxed) == round));
                        member.barrier();
                    }
                });
            }
        }
    }

    #[test]
    fn shares_and_claims_cover_everything_once() {
        let team = Team::new(3).unwrap();
        for (count, unit) in [(0, 1), (1, 4), (7, 1), (100, 8), (9, 16)] {
            let hits: Vec<AtomicUsize> = (0..2 * count).map(|_| AtomicUsize::new(0)).collect();
            let taken = AtomicUsize::new(0);
            team.run(&|member| {
                for i in member.share(count, unit) {
                    hits[i].fetch_add(1, Ordering::Relaxed);
                }
                while let Some(range) = member.claim(&taken, count, unit) {
                    for i in range {
                        hits[count + i].fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1), "{count} in units of {unit}");
        }
    }

    #[test]
    fn a_panic_of_any_member_reaches_the_caller_and_the_team_goes_on() {
        let team = Team::new(3).unwrap();
        for culprit in 0..3 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                team.run(&|member| {
                    assert_ne!(member.index, culprit, "it was member {culprit}");
                    member.barrier();
                });
            }));
            let panic = result.unwrap_err();
            let said = panic.downcast_ref::<String>().unwrap();
            assert!(said.contains(&format!("it was member {culprit}")), "{said}");
            let count = AtomicUsize::new(0);
            team.run(&|member| {
                member.barrier();
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(count.load(Ordering::Relaxed), 3);
        }
    }
}
