"""scikit-learn estimators from joblib, pickle and skops files, checked before they predict.

May import: adapters, adapters.pickles.
Imported by: adapters.
"""
