"""The models as a user sees them."""
