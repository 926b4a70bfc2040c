//! Removing what dead pods have left.
