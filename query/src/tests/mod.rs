//! Tests of the engine as a whole, on real Delta tables in a temporary directory.
#![allow(clippy::unwrap_used)]

mod http;
mod index;
mod kit;
mod overlay;
mod sql;
