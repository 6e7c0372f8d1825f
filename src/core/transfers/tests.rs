//! Transfers in the core.
