"""Estimates over tokens and documents: intervals, effects, baselines, calibration, selection bias, landscape."""
