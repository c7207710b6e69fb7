"""Judgements on a snapshot, one module a component. *Pure.*"""
