//! From TOML text to a [`Spec`](crate::spec::Spec), with every problem told at once.
