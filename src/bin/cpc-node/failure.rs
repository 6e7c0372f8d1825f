//! How a command can end badly, and which exit code says so.

use std::fmt;

use cpc_net::error::{
    CommandError, ConfigError, ConnectError, DeliveryError, SendError, StartError, StoreError, TransferError,
};

/// A command's bad end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It was asked wrongly: nothing was tried.
    Usage(String),
    /// It was tried and did not work.
    Failed(String),
    /// Somebody stopped it before it was done.
    Interrupted,
}

impl Failure {
    /// What the shell sees; 130 is its own convention for a program that Ctrl-C ended (128 + SIGINT).
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Failed(_) => 1,
            Failure::Interrupted => 130,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(text) | Failure::Failed(text) => formatter.write_str(text),
            Failure::Interrupted => formatter.write_str("interrupted"),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::Usage(error.to_string())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Config(error) => error.into(),
            error => Failure::Failed(error.to_string()),
        }
    }
}

/// Errors that say all there is to say.
macro_rules! failed {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Failure::Failed(error.to_string())
            }
        })*
    };
}

failed!(StoreError, ConnectError, SendError, DeliveryError, CommandError, TransferError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_in_the_configuration_are_usage_errors_wherever_they_are_found() {
        let mistake = || ConfigError::OutOfRange {
            field: "limits.groups",
            value: "0".into(),
            allowed: "1 to 1024 groups".into(),
        };
        for failure in [Failure::from(mistake()), Failure::from(StartError::Config(mistake()))] {
            assert_eq!(failure.exit_code(), 2);
            assert_eq!(failure.to_string(), "limits.groups is 0, allowed is 1 to 1024 groups");
        }
        assert_eq!(Failure::from(StartError::Thread("no room".into())).exit_code(), 1);
        assert_eq!(Failure::from(SendError::ShuttingDown).exit_code(), 1);
    }
}
