//! Rust sources as tokens: just enough of the language to tell code from comments, texts and tests.

/// A word, `::`, or one sign. Comments are left out; texts, characters and numbers keep only their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

const LITERAL: &str = "<literal>";

pub fn tokens(source: &str) -> Vec<Token> {
    let text: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut at = 0;
    while at < text.len() {
        let start = at;
        let kind = if text[at].is_whitespace() {
            at += 1;
            None
        } else if text[at..].starts_with(&['/', '/']) {
            at = position(&text, at, |rest| rest[0] == '\n');
            None
        } else if text[at..].starts_with(&['/', '*']) {
            at = end_of_block_comment(&text, at);
            None
        } else if let Some(end) = end_of_text(&text, at) {
            at = end;
            Some(LITERAL.to_owned())
        } else if text[at] == '\'' {
            // 'x' and '\n' are characters, 'a of a lifetime is not.
            let escaped = text.get(at + 1) == Some(&'\\');
            if escaped || text.get(at + 2) == Some(&'\'') {
                at = position(&text, at + if escaped { 3 } else { 2 }, |rest| rest[0] == '\'') + 1;
                Some(LITERAL.to_owned())
            } else {
                at = position(&text, at + 1, |rest| !is_word(rest[0]));
                None
            }
        } else if is_word(text[at]) {
            at = position(&text, at, |rest| !is_word(rest[0]));
            let word: String = text[start..at].iter().collect();
            Some(if word.starts_with(|first: char| first.is_ascii_digit()) { LITERAL.to_owned() } else { word })
        } else if text[at..].starts_with(&[':', ':']) {
            at += 2;
            Some("::".to_owned())
        } else {
            at += 1;
            Some(text[start].to_string())
        };
        tokens.extend(kind.map(|text| Token { text, line }));
        at = at.min(text.len());
        line += text[start..at].iter().filter(|&&sign| sign == '\n').count();
    }
    tokens
}

pub fn is_word(sign: char) -> bool {
    sign == '_' || sign.is_alphanumeric()
}

/// The first place from `from` on where `wanted` holds of what follows; the end if there is none.
fn position(text: &[char], from: usize, wanted: impl Fn(&[char]) -> bool) -> usize {
    (from..text.len()).find(|&at| wanted(&text[at..])).unwrap_or(text.len())
}

fn end_of_block_comment(text: &[char], start: usize) -> usize {
    let mut depth = 0usize;
    let mut at = start;
    while at < text.len() {
        if text[at..].starts_with(&['/', '*']) {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with(&['*', '/']) {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// Where the text literal that begins at `start` ends, plain or raw, of bytes or not; `None` if none begins there.
fn end_of_text(text: &[char], start: usize) -> Option<usize> {
    let mut at = start;
    while at < text.len() && at - start < 2 && matches!(text[at], 'b' | 'c' | 'r') {
        at += 1;
    }
    let raw = at > start && text[at - 1] == 'r';
    let hashes = position(text, at, |rest| rest[0] != '#') - at;
    if hashes > 0 && !raw || text.get(at + hashes) != Some(&'"') {
        return None;
    }
    at += hashes + 1;
    if raw {
        let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
        return Some(position(text, at, |rest| rest.starts_with(&close)) + close.len());
    }
    while at < text.len() && text[at] != '"' {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    Some(at + 1)
}

/// What stands between the parentheses that open at `index`, or behind the `!` there; empty if none do.
pub fn group_after(tokens: &[Token], index: usize) -> &[Token] {
    let index = if tokens.get(index).is_some_and(|token| token.text == "!") { index + 1 } else { index };
    match tokens.get(index) {
        Some(open) if open.text == "(" => &tokens[index + 1..closing(tokens, index)],
        _ => &[],
    }
}

/// The index of the bracket that closes the one at `open`.
pub fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return index;
        }
    }
    tokens.len()
}

pub fn first_argument(arguments: &[Token]) -> &[Token] {
    let mut at = 0;
    while at < arguments.len() && arguments[at].text != "," {
        at = if arguments[at].text == "(" { closing(arguments, at) + 1 } else { at + 1 };
    }
    &arguments[..at.min(arguments.len())]
}

/// The tokens without what is compiled for tests only: tests may throw dice and wait.
pub fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let is = |offset: usize, text: &str| tokens.get(at + offset).is_some_and(|token| token.text == text);
        let condition = if is(0, "#") && is(1, "[") && is(2, "cfg") { group_after(tokens, at + 3) } else { &[] };
        let asks = |word: &str| condition.iter().any(|token| token.text == word);
        if asks("test") && !asks("not") {
            // The item ends with its first block or with a semicolon outside of brackets.
            at = closing(tokens, at + 1) + 1;
            while at < tokens.len() && tokens[at].text != ";" && tokens[at].text != "{" {
                at = if ["(", "["].contains(&tokens[at].text.as_str()) { closing(tokens, at) + 1 } else { at + 1 };
            }
            at = if at < tokens.len() && tokens[at].text == "{" { closing(tokens, at) + 1 } else { at + 1 };
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

#[test]
fn tests_within_a_source_are_left_out() {
    let source = "use a::B;\n#[cfg(test)]\n#[allow(dead_code)]\nmod tests { fn x() { { tokio::y(); } } }\nfn c() {}\n\
                  #[cfg(test)]\nuse tokio::z;\nfn d(e: [u8; 2]) {}\n#[cfg(not(test))]\nfn f() {}";
    let kept: Vec<_> = without_tests(&tokens(source)).into_iter().map(|token| token.text).collect();
    assert!(!kept.contains(&"tokio".to_owned()), "{kept:?}");
    for name in ["B", "c", "d", "e", "f"] {
        assert!(kept.contains(&name.to_owned()), "{name} is missing from {kept:?}");
    }
}

#[test]
fn lines_are_counted_through_comments_and_texts() {
    let source = "/* one\ntwo */ let a = \"three\nfour\";\n// five\nlet found = 'x';";
    let token = tokens(source).into_iter().find(|token| token.text == "found").expect("the word stands there");
    assert_eq!(token.line, 5);
}
