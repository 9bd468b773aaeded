"""What the dashboard is made of: its controls, its pictures, and a module for each of its tabs."""
