//! Owns the moments at which a test has the process die. In what is shipped there are none.

/// Says that a step was done after which the process may be killed.
#[cfg(not(test))]
pub(crate) fn reached(_step: &'static str) {}

#[cfg(test)]
pub(crate) use tests::reached;

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    thread_local! {
        /// Steps that are still done before the end.
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// What is thrown for a death.
    struct Died(&'static str);

    /// Ends this thread's work when its time has come. What it had done stays as it is; only its locks go, as those
    /// of a process that is killed do.
    pub(crate) fn reached(step: &'static str) {
        LEFT.with(|left| match left.get() {
            Some(0) => {
                left.set(None);
                resume_unwind(Box::new(Died(step)));
            }
            Some(n) => left.set(Some(n - 1)),
            None => {}
        });
    }

    /// Runs `work` and has it die after so many steps; the step at which it did, or what it gave.
    pub(crate) fn dies_after<T>(steps: u32, work: impl FnOnce() -> T) -> Result<T, &'static str> {
        LEFT.with(|left| left.set(Some(steps)));
        let done = catch_unwind(AssertUnwindSafe(work));
        LEFT.with(|left| left.set(None));
        done.map_err(|thrown| match thrown.downcast::<Died>() {
            Ok(died) => died.0,
            Err(other) => resume_unwind(other),
        })
    }
}
