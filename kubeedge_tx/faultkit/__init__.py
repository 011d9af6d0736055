"""Break a deployment on purpose, and find out which promise did not hold."""
