"""Quality criteria as rows of data, and the one place that turns them into asset checks."""
