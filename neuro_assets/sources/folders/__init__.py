"""Sessions in folders: ONE trees, and bare run folders dropped beside them."""
