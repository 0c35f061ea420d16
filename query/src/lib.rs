//! flowsync-query
