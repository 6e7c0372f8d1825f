//! Durations in configurations and snapshots.
//!
//! People write `"30s"`; programs write milliseconds. Configurations take both and are written for people; snapshots
//! and events carry a number of milliseconds, fractions included.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Milliseconds(f64),
    Text(String),
}

pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    const EXPECTED: &str = "expected a duration such as \"30s\" or \"500ms\", or a number of milliseconds";
    match Written::deserialize(deserializer).map_err(|_| D::Error::custom(EXPECTED))? {
        Written::Milliseconds(number) => Duration::try_from_secs_f64(number / 1000.0)
            .map_err(|_| D::Error::custom(format!("{number} milliseconds is not a duration: {EXPECTED}"))),
        Written::Text(text) => {
            humantime::parse_duration(&text).map_err(|error| D::Error::custom(format!("{text:?}: {error}; {EXPECTED}")))
        }
    }
}

/// A duration as a number of milliseconds.
pub(crate) mod millis {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64() * 1000.0)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        super::deserialize(deserializer)
    }
}

/// A duration that may be absent, as a number of milliseconds or null.
pub(crate) mod optional_millis {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::millis::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }
}
