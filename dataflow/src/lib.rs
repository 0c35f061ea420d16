//! flowsync-dataflow
