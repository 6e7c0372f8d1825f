//! The machines of both sides against each other.
