//! What integration tests share.

use std::process::{Command, Stdio};

/// Whether a program that a test needs is there. If it isn't, the test is skipped and says so;
/// under `CI=true` it fails.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
pub fn require(tool: &str) -> bool {
    let found =
        Command::new(tool).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    assert!(found || !in_ci(), "{tool} is not installed, and CI=true");
    if !found {
        println!("skipped: {tool} is not installed");
    }
    found
}

#[expect(clippy::disallowed_methods, reason = "CI tells its tests by the environment")]
fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|ci| ci == "true")
}
