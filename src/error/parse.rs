//! Texts that can't be read. A room of its own below the words that are read from texts.

/// A text that is not what it should be: an address, a peer id, a group name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}: expected {expected}")]
pub struct ParseError {
    what: &'static str,
    text: String,
    expected: &'static str,
}

impl ParseError {
    /// Longest part of the offending text that is repeated, in characters: it may come from a stranger.
    const MAX_SHOWN: usize = 120;

    pub(crate) fn new(what: &'static str, text: &str, expected: &'static str) -> Self {
        Self { what, text: text.chars().take(Self::MAX_SHOWN).collect(), expected }
    }

    /// A stable name for this error.
    pub fn code(&self) -> &'static str {
        "invalid_argument"
    }
}
