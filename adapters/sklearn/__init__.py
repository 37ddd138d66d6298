"""scikit-learn estimators: joblib, pickle, skops.

May import: adapters, adapters.pickles.
"""
