"""Boosted trees: XGBoost, LightGBM, CatBoost.

May import: adapters.
"""
