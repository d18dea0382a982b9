"""Exports of stand-alone networks: folders that work without a workdir, and what reads them."""
