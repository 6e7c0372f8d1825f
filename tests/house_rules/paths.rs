//! The paths that code names, with imports spelled out.

use super::tokens::{Token, closing, is_word};

/// A path as the code names it, imports spelled out one by one: `use a::{b, c::d}` gives `a::b` and `a::c::d`.
pub struct NamedPath {
    pub segments: Vec<String>,
    pub line: usize,
}

pub fn paths(tokens: &[Token]) -> Vec<NamedPath> {
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        // `use` of precise capturing (`impl Trait + use<'_>`) imports nothing.
        let import = tokens[at].text == "use" && tokens.get(at + 1).is_some_and(|next| next.text != "<");
        if import {
            at = import_tree(tokens, at + 1, &[], &mut paths);
        } else if tokens[at].text.starts_with(|first: char| first == '_' || first.is_alphabetic()) {
            let line = tokens[at].line;
            let mut segments = vec![tokens[at].text.clone()];
            at += 1;
            while tokens.get(at).is_some_and(|token| token.text == "::")
                && tokens.get(at + 1).is_some_and(|token| token.text.starts_with(is_word))
            {
                segments.push(tokens[at + 1].text.clone());
                at += 2;
            }
            paths.push(NamedPath { segments, line });
        } else {
            at += 1;
        }
    }
    paths
}

/// Reads one branch of an import and gives the index of what follows it.
fn import_tree(tokens: &[Token], mut at: usize, stem: &[String], paths: &mut Vec<NamedPath>) -> usize {
    let mut segments = stem.to_vec();
    let line = tokens.get(at).map_or(0, |token| token.line);
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "::" => at += 1,
            "{" => {
                let end = closing(tokens, at);
                at += 1;
                while at < end {
                    at = import_tree(tokens, at, &segments, paths);
                    at += usize::from(at < end && tokens[at].text == ",");
                }
                return end + 1;
            }
            // A new name changes nothing about what is imported.
            "as" => at += 2,
            "," | "}" | ";" => break,
            segment => {
                segments.push(segment.to_owned());
                at += 1;
            }
        }
    }
    if !segments.is_empty() {
        paths.push(NamedPath { segments, line });
    }
    at
}
