"""Recordings on disk: Parquet, CSV and HDF5 files as `sisock export` writes them."""
