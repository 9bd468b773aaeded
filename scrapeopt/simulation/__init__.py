"""Worlds to try a policy on, and the policies to measure others by.

The chapters on the twin and on the backtest put them together.
"""
