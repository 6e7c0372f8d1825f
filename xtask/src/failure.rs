//! What went wrong and what to do about it.

use std::fmt;

/// Why a command could not do its work, in words for the person who called it.
#[derive(Debug)]
pub struct Failure {
    what: String,
    remedy: Option<String>,
    epilogue: Option<String>,
}

impl Failure {
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: None, epilogue: None }
    }

    /// Says what to do. What was said closer to the cause stands.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy.get_or_insert_with(|| remedy.into());
        self
    }

    /// Adds what may be done besides.
    #[must_use]
    pub fn epilogue(mut self, epilogue: impl Into<String>) -> Self {
        self.epilogue = Some(epilogue.into());
        self
    }

    /// Puts in front what could not be done because of this.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.what = format!("{context}: {}", self.what);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Failed: {}", self.what)?;
        if let Some(remedy) = &self.remedy {
            write!(formatter, "\nWhat to do: {}", remedy.replace('\n', "\n            "))?;
        }
        if let Some(epilogue) = &self.epilogue {
            write!(formatter, "\n{epilogue}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_nearest_to_the_cause_is_told() {
        let failure = Failure::new("it broke").remedy("mend it").remedy("read the manual").context("step 3");
        assert_eq!(failure.to_string(), "Failed: step 3: it broke\nWhat to do: mend it");
    }
}
