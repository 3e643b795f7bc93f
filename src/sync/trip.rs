//! Panics on demand: tests make a thread of theirs panic at a named place, to show that what we
//! might do wrong there costs the host nothing and loses no record. Outside of tests [`trip`] is
//! nothing.

#[cfg(all(test, feature = "mock", not(loom)))]
pub(crate) use armed::arm;
#[cfg(test)]
pub(crate) use armed::trip;

/// A place where a test may have this thread panic.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn trip(_place: &'static str) {}

#[cfg(test)]
mod armed {
    use std::sync::Mutex;
    use std::thread::ThreadId;

    static ARMED: Mutex<Vec<(ThreadId, &str)>> = Mutex::new(Vec::new());

    /// Has a thread panic, once, when it comes to `place`.
    #[cfg(all(feature = "mock", not(loom)))]
    pub(crate) fn arm(thread: ThreadId, place: &'static str) {
        super::super::lock(&ARMED).push((thread, place));
    }

    /// A place where a test may have this thread panic.
    pub(crate) fn trip(place: &'static str) {
        let this = std::thread::current().id();
        let mut armed = super::super::lock(&ARMED);
        let Some(at) = armed.iter().position(|armed| *armed == (this, place)) else { return };
        armed.swap_remove(at);
        drop(armed);
        // Without a line on stderr for each.
        std::panic::resume_unwind(Box::new(format!("tripped at {place}")));
    }
}
