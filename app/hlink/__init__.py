"""Hlink: tables, clusters and SQL jobs, as the published Hlink API names them."""
