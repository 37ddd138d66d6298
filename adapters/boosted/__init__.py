"""Boosted trees: XGBoost, LightGBM, CatBoost, an adapter each, and what they share (`rows`).

May import: adapters.
Imported by: adapters, adapters.mlflow, adapters.pickles, adapters.sklearn.
"""
