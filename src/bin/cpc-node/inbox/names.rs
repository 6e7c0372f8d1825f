//! What a file of a peer's is called here: made from what the peer says, and never a path.

/// The longest name, bytes: below what file systems take (255), with room for what is added to it.
const MAX_NAME: usize = 160;

/// What a payload without a usable name is called.
const NAMELESS: &str = "payload";

/// Names that Windows keeps for devices, whatever extension follows
/// (<https://learn.microsoft.com/windows/win32/fileio/naming-a-file>).
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];

/// A name for a file, from what its sender calls it. It has no separators, no characters that steer a terminal or that a
/// file system refuses, isn't hidden, and never looks like one of this program's own partial files.
pub(crate) fn safe(said: &str) -> String {
    // Whatever the sender's system separates folders by.
    let last = said.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept = last.chars().map(|character| match character {
        ':' | '*' | '?' | '"' | '<' | '>' | '|' | '~' => '_',
        character if character.is_control() || steers(character) => '_',
        character => character,
    });
    let kept = kept.collect::<String>();
    let kept = kept.trim_start_matches(['.', ' ']).trim_end_matches(['.', ' ']);
    let (stem, extension) = split(kept);
    let stem = shortened(stem, MAX_NAME - extension.len());
    let first = stem.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let numbered =
        |device: &str| first.strip_prefix(device).is_some_and(|rest| matches!(rest.as_bytes(), [b'0'..=b'9']));
    let device = DEVICES.contains(&first.as_str()) || numbered("com") || numbered("lpt");
    let stem = match stem {
        "" => NAMELESS.to_owned(),
        stem if device => format!("_{stem}"),
        stem => stem.to_owned(),
    };
    match extension.eq_ignore_ascii_case(".part") {
        true => format!("{stem}{extension}_"),
        false => format!("{stem}{extension}"),
    }
}

/// The name of the `number`th file that wants the same one: `note.txt`, `note (2).txt`.
pub(crate) fn numbered(name: &str, number: u32) -> String {
    let (stem, extension) = split(name);
    if number <= 1 { name.to_owned() } else { format!("{stem} ({number}){extension}") }
}

/// The stem and the extension with its dot; an extension is short.
fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(at) if at > 0 && name.len() - at <= 16 => name.split_at(at),
        _ => (name, ""),
    }
}

fn shortened(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

/// Marks that make a name read as another one than it is (Unicode's bidirectional controls), and separators of lines.
fn steers(character: char) -> bool {
    matches!(character,
        '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_anywhere_or_pretends_to_be_another() {
        for (said, called) in [
            ("film.mp4", "film.mp4"),
            ("ein schöner Film.mp4", "ein schöner Film.mp4"),
            ("/etc/passwd", "passwd"),
            ("../../x", "x"),
            ("..\\..\\x.txt", "x.txt"),
            ("C:\\x\\y.txt", "y.txt"),
            ("C:y.txt", "C_y.txt"),
            ("", "payload"),
            (".", "payload"),
            ("..", "payload"),
            ("a/", "payload"),
            (".bashrc", "bashrc"),
            ("trailing. . ", "trailing"),
            ("nul", "_nul"),
            ("COM1.txt", "_COM1.txt"),
            ("command.txt", "command.txt"),
            ("x.part", "x.part_"),
            ("x~0123456789abcdef", "x_0123456789abcdef"),
            ("a\0b\nc\u{202e}gpj.exe", "a_b_c_gpj.exe"),
        ] {
            assert_eq!(safe(said), called, "{said:?}");
        }
        let long = safe(&format!("{}.jpeg", "ä".repeat(125)));
        assert!(long.len() <= MAX_NAME && long.ends_with(".jpeg"), "{long}");
    }

    #[test]
    fn a_second_file_of_a_name_gets_a_number_before_its_extension() {
        assert_eq!(numbered("note.txt", 1), "note.txt");
        assert_eq!(numbered("note.txt", 2), "note (2).txt");
        assert_eq!(numbered("note", 3), "note (3)");
    }
}
