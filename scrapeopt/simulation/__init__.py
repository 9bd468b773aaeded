"""Worlds to try a policy on, the policies to measure others by, and what a shop shows of such a world.

The chapters on the twin and on the backtest put them together.
"""
