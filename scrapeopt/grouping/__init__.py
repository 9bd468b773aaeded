"""The rules that make, check, split and merge groups; they compute and do no I/O.

The chapter on groups puts them together for policy `document`, belief state for policy `delegated`.
"""
