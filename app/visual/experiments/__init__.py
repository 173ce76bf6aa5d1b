"""Experiments (实验管理): what people make jobs in."""
