"""What is measured, against whom: ``python -m bench``; the last results are in bench/README.md."""
