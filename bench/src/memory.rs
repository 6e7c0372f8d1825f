//! How much memory this process has.

use std::fs;

/// Its proportional set size, bytes: what it alone has in memory, and its share of what it shares. `None` where the system
/// doesn't tell (it is Linux's `/proc/self/smaps_rollup`).
pub fn of_this_process() -> Option<u64> {
    pss(&fs::read_to_string("/proc/self/smaps_rollup").ok()?)
}

fn pss(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_words_are_read() {
        let rollup = "55d0-7ffc ---p 00000000 00:00 0  [rollup]\nRss:  6412 kB\nPss:  1234 kB\nPss_Dirty:  800 kB\n";
        assert_eq!(pss(rollup), Some(1234 * 1024));
        assert_eq!(pss("Rss: 12 kB\n"), None);
        assert_eq!(pss(""), None);
    }
}
