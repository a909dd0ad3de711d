"""One runnable module for each result; never imported by the packages."""
