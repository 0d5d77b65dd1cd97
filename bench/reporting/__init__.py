"""Documents for readers: reports, collected tables and published folders."""
