"""The schema of the record, as package data: plain SQL in dbmate format, one file a version."""
