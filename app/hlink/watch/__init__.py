"""Looking after running jobs: their figures for ``/metrics``, and what is wrong with them."""
