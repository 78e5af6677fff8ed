"""Devices, the compiled core behind them, and what the checker finds."""
