//! How much memory this process has.

use std::fs;

/// Its anonymous memory, bytes: heaps and stacks. What it has mapped of files is left out, as others may have that too,
/// and it grows with the code that has run, not with what is held. `None` where the system doesn't tell (it is Linux's
/// `/proc/self/smaps_rollup`).
pub fn of_this_process() -> Option<u64> {
    anonymous(&fs::read_to_string("/proc/self/smaps_rollup").ok()?)
}

fn anonymous(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_words_are_read() {
        let rollup =
            "55d0-7ffc ---p 00000000 00:00 0  [rollup]\nRss:  6412 kB\nAnonymous:  1234 kB\nLazyFree:  800 kB\n";
        assert_eq!(anonymous(rollup), Some(1234 * 1024));
        assert_eq!(anonymous("Rss: 12 kB\n"), None);
        assert_eq!(anonymous(""), None);
    }
}
