"""One file a family of cases: what is measured, what it shall reach, and how it is gone about."""
