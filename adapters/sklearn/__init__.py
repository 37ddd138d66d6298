"""scikit-learn estimators from joblib, pickle and skops files, checked before they predict.

May import: adapters, adapters.boosted.lightgbm, adapters.boosted.xgboost, adapters.pickles.
Imported by: adapters, adapters.mlflow.
"""
