"""neuro_assets: every recording session of a lab as checked, versioned, reusable data.

Only the version lives here, so that importing the package costs nothing.
"""

__version__ = "0.1.0"
