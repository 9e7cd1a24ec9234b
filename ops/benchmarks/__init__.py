"""Measurements that anyone can repeat: `./run bench NAME [--json] [--quick]`.

Figures that depend on time are ratios of things measured alternately in one run, medians of at least five rounds;
absolute figures stand beside them for reading only. They hold for the machine they were taken on.
"""
