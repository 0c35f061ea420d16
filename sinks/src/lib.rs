//! flowsync-sinks
