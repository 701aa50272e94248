"""Quality criteria as rows of data, and verdicts; asset checks are made of them above."""
