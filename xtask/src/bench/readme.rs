//! The table in README.md: what stands between two marks is replaced by the last run's.

use std::{fs, path::Path};

use crate::{failure::Failure, run::file_failure};

const BEGIN: &str = "<!-- cargo xtask bench --write-readme writes from here -->\n";
const END: &str = "<!-- to here -->";

/// Replaces the table in a file.
pub fn write(file: &Path, table: &str) -> Result<(), Failure> {
    let text = fs::read_to_string(file).map_err(|error| file_failure("reading", file, &error))?;
    let text = replaced(&text, table).ok_or_else(|| {
        Failure::new(format!("{} has no place for the table", file.display()))
            .remedy(format!("put these two lines where it shall stand:\n{BEGIN}{END}"))
    })?;
    fs::write(file, text).map_err(|error| file_failure("writing", file, &error))
}

fn replaced(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{}\n\n{END}{after}", table.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_replaced_and_the_rest_stays() {
        let text = format!("# Title\n\n{BEGIN}old\n{END}\n\nmore\n");
        let once = replaced(&text, "new\n").expect("there is a place");
        assert_eq!(once, format!("# Title\n\n{BEGIN}\nnew\n\n{END}\n\nmore\n"));
        assert_eq!(replaced(&once, "new").as_deref(), Some(once.as_str()));
        assert_eq!(replaced("# Title\n", "new"), None);
        assert_eq!(replaced(BEGIN, "new"), None);
    }

    #[test]
    fn the_readme_of_this_repository_has_a_place_for_the_table() {
        assert!(replaced(include_str!("../../../README.md"), "new").is_some());
    }
}
