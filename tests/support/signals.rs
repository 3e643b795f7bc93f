//! Rust programs ignore SIGPIPE; the C programs that the library lives in need not.
#![expect(unsafe_code, reason = "signal(2) has no safe interface")]

use std::sync::Once;

/// Lets SIGPIPE end the process, as it does where nobody asks for anything else.
pub fn restore_sigpipe() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: SIG_DFL is a valid disposition for SIGPIPE, and no handler is installed.
        let old = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        assert_ne!(old, libc::SIG_ERR);
    });
}
