"""The results folder: run folders, claims, plans, and the tables made from them. No torch, no methods."""
