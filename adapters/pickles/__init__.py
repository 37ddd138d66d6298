"""Pickle and joblib files, read through an allow-list of names; nothing else that a file names is imported or called.

May import: adapters, adapters.boosted.catboost, adapters.boosted.lightgbm, adapters.boosted.ubj,
adapters.boosted.xgboost.
Imported by: adapters, adapters.pytorch, adapters.sklearn.
"""
