//! Two nodes write to each other, and are killed with SIGKILL a hundred times at random moments. In the end every message
//! is accounted for: what was accepted has arrived, nothing was shown twice without being marked, nothing came that was
//! never sent.
//!
//! A program of its own instead of the usual harness, since it starts itself again as the nodes. `CPC_NET_TEST_SEED`
//! replays the moments of a run, `CPC_NET_TEST_KILLS` sets their number.

#[cfg(unix)]
#[path = "killed/accounts.rs"]
mod accounts;
#[cfg(unix)]
#[path = "killed/node.rs"]
mod node;
#[cfg(unix)]
#[path = "killed/story.rs"]
mod story;

#[cfg(unix)]
const NAME: &str = "nothing_accepted_is_lost_and_nothing_is_shown_twice";

/// Elsewhere there is no SIGKILL.
#[cfg(not(unix))]
fn main() {}

#[cfg(unix)]
fn main() {
    if let Some(role) = node::Role::of_this_process() {
        return node::run(role);
    }
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has("--list") {
        if !has("--ignored") {
            println!("{NAME}: test");
        }
        return;
    }
    let filters = arguments.iter().filter(|argument| !argument.starts_with('-')).collect::<Vec<_>>();
    if has("--ignored") || !(filters.is_empty() || filters.iter().any(|filter| NAME.contains(filter.as_str()))) {
        return;
    }
    story::run();
}
