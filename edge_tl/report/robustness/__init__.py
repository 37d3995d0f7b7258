"""Pages and plots of attacks and dreams."""
