"""Schedulers: which trials go on."""
