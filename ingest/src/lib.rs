//! flowsync-ingest
